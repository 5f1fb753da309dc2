package demo_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
	"lexigram.dev/tenancy/internal/integration/servers"
)

func TestTheDemoRefusesALoginThatCannotMakeRoles(t *testing.T) {
	t.Parallel()
	pg, mariaDB := servers.Postgres(t), servers.MariaDB(t)
	database := pg.CreateDatabase(t)
	user, password := pg.CreateRole(t, "")
	weak, secret := mariaDB.CreateUser(t, "ALL PRIVILEGES ON `tenancy\\_demo`.*")
	for name, c := range map[string]struct{ url, password, says string }{
		"PostgreSQL": {pg.URLFor(user, password, database), password, "superuser"},
		"MariaDB":    {fmt.Sprintf("mysql://%s:%s@%s/", weak, secret, mariaDB.Addr()), secret, "such as root"},
		"a wrong password": {
			fmt.Sprintf("mysql://%s:%s@%s/", weak, "hunter2", mariaDB.Addr()), "hunter2", "--database-url",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := command(t, "demo", "--addr", "127.0.0.1:0", "--database-url", c.url).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), c.password) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestTheDemoRefusesMySQL(t *testing.T) {
	t.Parallel()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{Settings: map[string]string{"version": "8.0.36"}})
	_, err := demo.New(t.Context(), demo.Options{DatabaseURL: fmt.Sprintf("mysql://root:%s@%s/", server.Password(), server.Addr())})
	if err == nil || !strings.Contains(err.Error(), "MySQL 8.0.36") || !strings.Contains(err.Error(), "use MariaDB") {
		t.Error(err)
	}
}

// The login of the catalogue is the one that serves requests with all tenants' records in reach:
// the passwords and the notes are not.
func TestTheCataloguesLoginOnMariaDBReachesTheCatalogueOnly(t *testing.T) {
	t.Parallel()
	text := mariaDBURL(t)
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	start(t, demo.Options{DatabaseURL: text})
	server, database := servers.MariaDB(t), strings.Trim(u.Path, "/")
	root := openMariaDB(t, server.DSN(database))
	login := "tenancy_demo_" + database + "_catalogue"
	var password, notes string
	if err := root.QueryRowContext(t.Context(), "SELECT password FROM demo_logins WHERE login = ?", login).Scan(&password); err != nil {
		t.Fatal(err)
	}
	err = root.QueryRowContext(t.Context(), `SELECT concat(table_schema, '.', table_name) FROM information_schema.tables
		JOIN information_schema.schemata ON schema_name = table_schema
		WHERE table_name = 'notes' AND schema_comment <> '' LIMIT 1`).Scan(&notes)
	if err != nil {
		t.Fatal(err)
	}
	catalogue := openMariaDB(t, server.DSNFor(login, password, database))
	for table, allowed := range map[string]bool{"tenancy_tenants": true, "demo_logins": false, notes: false, "mysql.global_priv": false} {
		var n int
		err := catalogue.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n)
		refused, _ := errors.AsType[*mysql.MySQLError](err)
		switch denied := refused != nil && (refused.Number == 1142 || refused.Number == 1044); {
		case allowed && (err != nil || n == 0):
			t.Errorf("%s: %d rows, %v", table, n, err)
		case !allowed && !denied:
			t.Errorf("%s: got %v, want that the server denies it", table, err)
		}
	}
}

func openMariaDB(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Somebody has given the login that serves requests more than the demo gave it.
func TestTheDemoDoesNotServeWithoutItsWall(t *testing.T) {
	t.Parallel()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{})
	opts := demo.Options{DatabaseURL: fmt.Sprintf("mysql://root:%s@%s/", server.Password(), server.Addr()), Environ: []string{}}
	if err := start(t, opts).Close(); err != nil {
		t.Fatal(err)
	}
	root := openMariaDB(t, server.DSN(""))
	if _, err := root.ExecContext(t.Context(), "GRANT SELECT ON *.* TO tenancy_demo_tenancy_demo_app"); err != nil {
		t.Fatal(err)
	}
	app, err := demo.New(t.Context(), opts)
	if err == nil {
		_ = app.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "rights on all databases") {
		t.Errorf("got %v", err)
	}
}
