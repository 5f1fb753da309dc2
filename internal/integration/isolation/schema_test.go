package isolation_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

func isSchemas(a access) bool { return a.shared && !a.rows }

// denied fails the test unless the server refused for want of a right.
func denied(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%s: %v", what, err)
	}
}

func TestC18QualifiedNameReachesNobodyElse(t *testing.T) {
	t.Parallel()
	each(t, isSchemas, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		theirs := placementOf(t, c.globex).Schema + ".notes"
		for _, text := range []string{
			"SELECT body FROM " + theirs, "INSERT INTO " + theirs + " (body) VALUES ('x')", "UPDATE " + theirs + " SET body = 'x'",
			"DELETE FROM " + theirs, "TRUNCATE " + theirs, "DROP TABLE " + theirs, "CREATE TABLE " + theirs + "2 (id int)",
			"COPY " + theirs + " TO STDOUT", "SELECT nextval('" + theirs + "_id_seq')",
			"SET LOCAL search_path TO " + placementOf(t, c.globex).Schema + "; SELECT body FROM notes",
		} {
			_, err := c.db.ExecContext(c.acme, text)
			if strings.HasPrefix(text, "SET LOCAL") {
				if err == nil {
					t.Errorf("%s: ran", text)
				}
			} else if !strings.HasPrefix(text, "DROP") || err == nil { // who is no owner is told so instead
				denied(t, text, err)
			}
			err = c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(c.acme, "SAVEPOINT s"); err != nil {
					return err
				}
				_, err := tx.ExecContext(c.acme, text)
				return err
			})
			if err == nil {
				t.Errorf("%s: ran in a transaction", text)
			}
		}
		// The login itself, bound to nobody, has no rights either.
		inner.unbound(t, "SELECT body FROM "+theirs, func(_ any, err error) { denied(t, "unbound", err) })
		sees(t, c.globex, c.db, "of globex")
		sees(t, c.acme, c.db, "of acme")
	})
}

// TestC09TheConnectionsOwnSearchPath has a login whose sessions begin with another search_path.
func TestC09TheConnectionsOwnSearchPath(t *testing.T) {
	t.Parallel()
	each(t, isSchemas, func(t *testing.T, a access) {
		c := a.open(t)
		_, err := c.admin.Exec(fmt.Sprintf("ALTER ROLE %q SET search_path = %s, public", c.roles.App, placementOf(t, c.globex).Schema))
		must(t, err)
		db, err := isolation.Open(c.config)
		must(t, err)
		defer db.Close()
		for range 3 {
			sees(t, c.acme, db, "of acme")
			sees(t, c.globex, db, "of globex")
		}
	})
}

// TestC10TenantsAtDifferentVersions asks the same text of tables that differ.
func TestC10TenantsAtDifferentVersions(t *testing.T) {
	t.Parallel()
	each(t, func(a access) bool { return !a.rows && a.engine == "" }, func(t *testing.T, a access) {
		c := a.open(t, one)
		p, err := isolation.NewProvisioner(c.config, at2{})
		must(t, err)
		scope, err := tenancy.ScopeOf(c.globex)
		must(t, err)
		tn := *scope.Tenant
		tn.Placement, err = p.Provision(t.Context(), tn)
		must(t, err)
		globex := tenancy.UnsafeBind(t.Context(), tn, "test")
		for range 10 {
			for _, one := range []struct {
				ctx     context.Context
				columns int
			}{{c.acme, 2}, {globex, 3}} {
				rows, err := c.db.QueryContext(one.ctx, "SELECT * FROM notes WHERE id > $1", 0)
				must(t, err)
				columns, err := rows.Columns()
				must(t, err)
				must(t, rows.Close())
				if len(columns) != one.columns {
					t.Fatalf("columns %q, want %d", columns, one.columns)
				}
				_, err = c.db.ExecContext(one.ctx, "UPDATE notes SET body = $1", "x")
				must(t, err)
				must(t, c.db.InTx(one.ctx, nil, func(tx *sql.Tx) error { // where nothing can be repeated
					rows, err := tx.QueryContext(one.ctx, "SELECT * FROM notes WHERE body = $1", "x")
					if err != nil {
						return err
					}
					for rows.Next() {
						continue
					}
					return errors.Join(rows.Err(), rows.Close())
				}))
			}
		}
	})
}

// at2 is the second version of the tables: another type of one column, and one more.
type at2 struct{}

func (at2) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	_, err := target.DB.ExecContext(ctx, "ALTER TABLE notes ALTER COLUMN body TYPE varchar(100), ADD COLUMN done boolean NOT NULL DEFAULT false")
	return 2, err
}

func (at2) Version(context.Context, isolation.Target) (int64, error) { return 2, nil }

func TestSystemScopeNamesTheSchema(t *testing.T) {
	t.Parallel()
	each(t, isSchemas, func(t *testing.T, a access) {
		c := a.open(t)
		ctx := tenancy.AsSystem(t.Context(), "count")
		for tn, want := range map[context.Context]string{c.acme: "of acme", c.globex: "of globex"} {
			var body string
			must(t, c.db.QueryRowContext(ctx, "SELECT body FROM "+placementOf(t, tn).Schema+".notes").Scan(&body))
			if body != want {
				t.Errorf("the system saw %q, want %q", body, want)
			}
		}
		if _, err := bodies(ctx, c.db); err == nil {
			t.Error("the system scope found a table without being told whose")
		}
	})
}

func TestSharedSchemasAreReadOnly(t *testing.T) {
	t.Parallel()
	c := openSchemas(t)
	for _, ddl := range []string{
		fmt.Sprintf("CREATE SCHEMA shared AUTHORIZATION %q", c.roles.Migrator),
		fmt.Sprintf("SET ROLE %q", c.roles.Migrator),
		"CREATE TABLE shared.countries (code text PRIMARY KEY)", "INSERT INTO shared.countries VALUES ('de')",
	} {
		_, err := c.admin.Exec(ddl)
		must(t, err)
	}
	pg := c.config.Servers["main"].(isolation.PostgreSQL)
	pg.Schemas = &isolation.Schemas{Roles: c.roles, Shared: []string{"shared"}}
	c.config.Servers["main"] = pg
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	_, err = p.Setup(t.Context())
	must(t, err)
	db, err := isolation.Open(c.config)
	must(t, err)
	defer db.Close()
	var code string
	must(t, db.QueryRowContext(c.acme, "SELECT code FROM countries, notes").Scan(&code))
	_, err = db.ExecContext(c.acme, "INSERT INTO countries VALUES ('fr')")
	denied(t, "a write to a shared table", err)
	must(t, db.Check(t.Context()))
}

func TestCheckFindsHolesOfSchemas(t *testing.T) {
	t.Parallel()
	c := openSchemas(t)
	must(t, c.db.Check(t.Context()))
	schema := placementOf(t, c.acme).Schema
	for hole, test := range map[string]struct{ open, close, finding string }{
		"inherits":      {`ALTER ROLE "%app%" INHERIT`, `ALTER ROLE "%app%" NOINHERIT`, "NOINHERIT"},
		"superuser":     {`ALTER ROLE "%app%" SUPERUSER`, `ALTER ROLE "%app%" NOSUPERUSER`, "superuser"},
		"system member": {`GRANT "%system%" TO "%app%"`, `REVOKE "%system%" FROM "%app%"`, "sees all tenants"},
		"migrator":      {`GRANT "%migrator%" TO "%app%"`, `REVOKE "%migrator%" FROM "%app%"`, "sees all tenants"},
		"public":        {"GRANT USAGE ON SCHEMA " + schema + " TO PUBLIC", "REVOKE USAGE ON SCHEMA " + schema + " FROM PUBLIC", "without a tenant"},
	} {
		names := strings.NewReplacer("%app%", c.roles.App, "%system%", c.roles.System, "%migrator%", c.roles.Migrator)
		_, err := c.admin.Exec(names.Replace(test.open))
		must(t, err)
		if err := c.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), test.finding) {
			t.Errorf("%s: Check says %v", hole, err)
		}
		_, err = c.admin.Exec(names.Replace(test.close))
		must(t, err)
		if err := c.db.Check(t.Context()); err != nil {
			t.Fatalf("%s: after the repair: %v", hole, err)
		}
	}
}

// TestL07SomebodyElsesPlaceIsLeftAlone names in a placement what belongs to another tenant, or to
// nobody.
func TestL07SomebodyElsesPlaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	each(t, func(a access) bool { return !a.rows && !a.pooled }, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		refused := func(thief tenancy.Tenant, whose string) {
			t.Helper()
			place := thief.Placement.Schema + thief.Placement.Database
			if _, err := p.Provision(t.Context(), thief); err == nil {
				t.Errorf("%s, which is %s, was provisioned", place, whose)
			}
			if err := p.Deprovision(t.Context(), thief); err == nil {
				t.Errorf("%s, which is %s, was dropped", place, whose)
			}
		}
		for _, id := range []string{"thief", "Acme"} { // the latter has the same readable name as acme
			thief := tenant(id)
			thief.Placement = placementOf(t, c.acme)
			refused(thief, "another tenant's")
		}
		names := []string{"public", "postgres", "root", "mysql", "shared.sqlite"}
		if a.engine == "" {
			// The application's own database: the migrator owns it, as it does tenants'.
			own := c.name + "_own"
			_, err := c.admin.Exec(fmt.Sprintf("CREATE DATABASE %q OWNER %q", own, c.roles.Migrator))
			must(t, err)
			t.Cleanup(func() {
				_, err := c.admin.Exec(fmt.Sprintf("DROP DATABASE %q", own))
				must(t, err)
			})
			names = append(names, own, c.roles.App, c.roles.System, c.roles.Migrator)
		}
		for _, name := range names {
			thief := tenant("thief")
			thief.Placement = placementOf(t, c.acme)
			if thief.Placement.Schema != "" {
				thief.Placement.Schema = name
			} else {
				thief.Placement.Database = name
			}
			refused(thief, "no tenant's")
		}
		must(t, c.db.Check(t.Context()))
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestDatabaseLoginsReachNothingElse(t *testing.T) {
	t.Parallel()
	c := openDatabases(t)
	mine, theirs := placementOf(t, c.acme).Database, placementOf(t, c.globex).Database
	var user, database string
	var super, creates, replicates, bypasses bool
	must(t, c.db.QueryRowContext(c.acme, `SELECT current_user, current_database(), rolsuper, rolcreaterole OR rolcreatedb, rolreplication, rolbypassrls
		FROM pg_roles WHERE rolname = current_user`).Scan(&user, &database, &super, &creates, &replicates, &bypasses))
	if user != mine || database != mine || super || creates || replicates || bypasses {
		t.Errorf("acme is %q in %q: %v %v %v %v", user, database, super, creates, replicates, bypasses)
	}
	var connect bool
	for name, want := range map[string]bool{mine: true, theirs: false, c.name: true} {
		must(t, c.admin.QueryRow("SELECT has_database_privilege($1, $2, 'CONNECT')", mine, name).Scan(&connect))
		if connect != want && name != c.name {
			t.Errorf("%s may connect to %s: %v", mine, name, connect)
		}
	}
	for _, text := range []string{"CREATE TABLE more (id int)", "DROP TABLE notes", "SET ROLE " + theirs, fmt.Sprintf("SET ROLE %q", c.roles.Migrator)} {
		if _, err := c.db.ExecContext(c.acme, text); err == nil {
			t.Errorf("%s: ran", text)
		}
	}
	config := c.config
	server := config.Servers["main"].(isolation.PostgreSQL)
	server.Databases = &isolation.Databases{Open: server.Databases.Open, Key: []byte(strings.Repeat("another ", 4))}
	config.Servers = map[string]isolation.Server{"main": server}
	guess, err := isolation.Open(config)
	must(t, err)
	defer guess.Close()
	_, err = bodies(c.acme, guess)
	mustBe(t, err, isolation.ErrMissing)
}

// TestReadOnlyGoesToTheReplica has a login that can only read in the place of a replica.
func TestReadOnlyGoesToTheReplica(t *testing.T) {
	t.Parallel()
	for _, open := range []func(testing.TB, ...func(*isolation.Config)) *cell{openDirect, openSchemas} {
		c := open(t, func(config *isolation.Config) {
			pg := config.Servers["main"].(isolation.PostgreSQL)
			pg.Replica = readOnly{pg.App}
			config.Servers["main"] = pg
		})
		readOnly := tenancy.ReadOnly(c.acme)
		sees(t, readOnly, c.db, "of acme")
		if _, err := c.db.ExecContext(readOnly, "INSERT INTO notes (body) VALUES ('x')"); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("a write under ReadOnly: %v", err)
		}
		c.add(t, c.acme, "written")
		sees(t, readOnly, c.db, "of acme", "written")
		sees(t, tenancy.ReadOnly(c.globex), c.db, "of globex")
	}
}

// TestTypesOfTheTenantsOwn has a type in each schema, with one name and different numbers.
func TestTypesOfTheTenantsOwn(t *testing.T) {
	t.Parallel()
	each(t, isSchemas, func(t *testing.T, a access) {
		c := a.open(t, one)
		p, err := isolation.NewProvisioner(c.config, migration("DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE moods (m mood); END $$"))
		must(t, err)
		for range 2 {
			contexts := []context.Context{provision(t, p, tenant("one")), provision(t, p, tenant("two"))}
			for range 3 {
				for _, ctx := range contexts {
					_, err := c.db.ExecContext(ctx, "INSERT INTO moods VALUES ($1)", "glad")
					must(t, err)
					var m string
					must(t, c.db.QueryRowContext(ctx, "SELECT m FROM moods WHERE m = $1 LIMIT 1", "glad").Scan(&m))
				}
			}
		}
	})
}

func TestC21TemporaryTablesComeLast(t *testing.T) {
	t.Parallel()
	each(t, isSchemas, func(t *testing.T, a access) {
		c := a.open(t, one)
		must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, "CREATE TEMP TABLE notes AS SELECT 1::bigint AS id, 'shadow'::text AS body")
			must(t, err)
			sees(t, c.acme, tx, "of acme")
			return nil
		}))
		sees(t, c.globex, c.db, "of globex")
	})
}
