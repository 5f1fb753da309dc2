package cells

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// MariaDBParams are what GORM asks for in a DSN. Without clientFoundRows a Save that changes nothing
// looks as if it had met no row.
const MariaDBParams = "?parseTime=true&charset=utf8mb4&clientFoundRows=true"

func (c Cell) mariaDB(t testing.TB, tables []string) isolation.MariaDB {
	t.Helper()
	server := servers.MariaDB(t)
	app, appPassword := server.CreateUser(t)
	var rows *isolation.MariaDBRows
	own := []string{"`t\\_%`.*"} // the tenants' databases
	if c.Strategy == tenancy.StrategyRowLevel {
		rows = mariaDBRows(t, server, tables)
		own = []string{rows.Base + ".*", rows.Views + ".*"}
	}
	grants := []string{"CREATE USER ON *.*"}
	for _, databases := range own {
		grants = append(grants, "ALL PRIVILEGES ON "+databases, "GRANT OPTION ON "+databases)
	}
	migrator, migratorPassword := server.CreateUser(t, grants...)
	connect := func(l isolation.Login) (driver.Connector, error) {
		config, err := mysql.ParseDSN(server.DSNFor(l.User, l.Password, l.Database) + MariaDBParams)
		if err != nil {
			return nil, err
		}
		return mysql.NewConnector(config)
	}
	appConnector, err := connect(isolation.Login{User: app, Password: appPassword})
	must(t, err)
	return isolation.MariaDB{
		App: appConnector,
		Open: func(l isolation.Login) (driver.Connector, error) {
			if l.User == "" {
				l.User, l.Password = migrator, migratorPassword
			}
			return connect(l)
		},
		Key:  key(),
		Rows: rows,
	}
}

// mariaDBRows says which tables tenants share, in databases of the test's own.
func mariaDBRows(t testing.TB, server *servers.MariaDBServer, tables []string) *isolation.MariaDBRows {
	t.Helper()
	rows := &isolation.MariaDBRows{Base: createMariaDB(t, server), Tables: map[string]string{}}
	rows.Views = rows.Base + "_views"
	for _, table := range tables {
		rows.Tables[table] = ""
	}
	admin, err := sql.Open("mysql", server.DSN(rows.Base))
	must(t, err)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE IF EXISTS "+rows.Views)
		must(t, errors.Join(err, admin.Close()))
	})
	return rows
}

// createMariaDB makes a database with the character set of tenants' own.
func createMariaDB(t testing.TB, server *servers.MariaDBServer) (name string) {
	t.Helper()
	name = server.CreateDatabase(t)
	admin, err := sql.Open("mysql", server.DSN(name))
	must(t, err)
	_, err = admin.ExecContext(t.Context(), "ALTER DATABASE "+name+" CHARACTER SET utf8mb4")
	must(t, errors.Join(err, admin.Close()))
	return name
}
