package bench_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// shop is the tables of an application that is not the smallest.
var shop = []string{
	"CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text UNIQUE)",
	"CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, placed timestamptz NOT NULL)",
	"CREATE INDEX ON orders (customer_id)",
	"CREATE TABLE lines (order_id bigint NOT NULL REFERENCES orders, n int NOT NULL, article text NOT NULL, price numeric NOT NULL, PRIMARY KEY (order_id, n))",
	"CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id bigint REFERENCES customers, body jsonb NOT NULL)",
	"CREATE INDEX ON notes (customer_id)",
}

// BenchmarkProvision is new tenants with a schema each, by 1 worker and by 4: the provisioner's steps,
// without a catalogue, against a script that runs the same statements in the same transactions on as many
// connections. What the script leaves out are the provisioner's questions whether the schema exists and
// whose it is. Beside it, without a budget, is a script that opens one connection per worker for good:
// the provisioner opens one for the schema, and one for its migration, so that no migration finds what
// another tenant's has left on the session.
func BenchmarkProvision(b *testing.B) {
	for _, workers := range []int{1, 4} {
		for _, kept := range []bool{false, true} {
			name, budgets := fmt.Sprintf("schema-by-%d", workers), map[string]float64{"ratio": 1 / 0.9}
			if kept {
				name, budgets = name+"-on-kept-connections", nil
			}
			b.Run(name, func(b *testing.B) {
				p := newProvisioning(b)
				script := p.record(b)
				compare(b, budgets,
					p.side(workers, func() func(t tenancy.Tenant) error {
						if !kept {
							return func(t tenancy.Tenant) error { return script.runAnew(b.Context(), p.migrator, t.Placement.Schema) }
						}
						db := sql.OpenDB(p.migrator)
						db.SetMaxOpenConns(1)
						b.Cleanup(func() { _ = db.Close() })
						return func(t tenancy.Tenant) error { return script.run(b.Context(), db, t.Placement.Schema) }
					}),
					p.side(workers, func() func(t tenancy.Tenant) error { return p.provision }))
			})
		}
	}
}

// provisioning is a server on which schemas are made.
type provisioning struct {
	migrator    *recorder
	provisioner *isolation.Provisioner
	made        atomic.Int64
}

func newProvisioning(b *testing.B) *provisioning {
	b.Helper()
	// A server of its own: catalogues grow, and what is in them stays.
	server := servers.NewPostgres(b, servers.PostgresConfig{})
	database := server.CreateDatabase(b)
	admin, err := sql.Open("pgx", server.URL(database))
	must(b, err)
	defer admin.Close()
	roles := isolation.Roles{App: "app", Migrator: "migrator", Creates: true}
	must(b, roles.Create(b.Context(), admin, isolation.Passwords{App: "app", Migrator: "migrator"}))
	app, err := tenantpgx.NewConnector(server.URLFor(roles.App, "app", database))
	must(b, err)
	migrator, err := tenantpgx.NewConnector(server.URLFor(roles.Migrator, "migrator", database))
	must(b, err)
	p := &provisioning{migrator: &recorder{Connector: migrator}}
	p.provisioner, err = isolation.NewProvisioner(isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
			App: app, Migrator: p.migrator, Schemas: &isolation.Schemas{Roles: roles},
		}},
		Strategy: tenancy.StrategySchema, Logger: quiet,
	}, notes{map[bool][]string{false: shop}})
	must(b, err)
	_, err = p.provisioner.Setup(b.Context())
	must(b, err)
	return p
}

// tenant returns one that nothing was made for.
func (p *provisioning) tenant() (tenancy.Tenant, error) {
	id := fmt.Sprint("t", p.made.Add(1))
	t := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusProvisioning}
	var err error
	t.Placement, err = p.provisioner.Place(context.Background(), t)
	return t, err
}

func (p *provisioning) provision(t tenancy.Tenant) error {
	for _, step := range p.provisioner.ProvisionSteps() {
		if err := step.Run(context.Background(), &t); err != nil {
			return err
		}
	}
	return nil
}

// side returns the making of a schema by each worker, at the same time. newWorker is called once for
// each of them.
func (p *provisioning) side(workers int, newWorker func() func(t tenancy.Tenant) error) side {
	work := make([]func(t tenancy.Tenant) error, workers)
	for i := range work {
		work[i] = newWorker()
	}
	return side{
		op: func() error {
			errs := make([]error, workers)
			var wg sync.WaitGroup
			for i := range work {
				wg.Go(func() {
					t, err := p.tenant()
					if err == nil {
						err = work[i](t)
					}
					errs[i] = err
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		},
		measured: func(b *testing.B, n int) {
			if n > 0 {
				b.ReportMetric(float64(n*workers)/b.Elapsed().Seconds(), "tenants/s")
			}
		},
	}
}

// script is the statements that make a tenant's schema, by connections and transactions.
type script struct {
	schema      string
	connections [][][]string
}

// record provisions a tenant and returns what was executed for it.
func (p *provisioning) record(b *testing.B) *script {
	b.Helper()
	t, err := p.tenant()
	must(b, err)
	p.migrator.script = &script{schema: t.Placement.Schema}
	must(b, p.provision(t))
	s := p.migrator.script
	p.migrator.script = nil
	if c := s.connections; len(c) != 2 || len(c[0]) != 1 || len(c[0][0]) < 10 || len(c[1]) != 1+len(shop) {
		b.Fatalf("recorded %q; want the schema in one transaction, then its search_path and its tables", c)
	}
	return s
}

// run runs the script for another schema on one connection.
func (s *script) run(ctx context.Context, db *sql.DB, schema string) error {
	for _, transactions := range s.connections {
		if err := s.runPart(ctx, db, transactions, schema); err != nil {
			return err
		}
	}
	return nil
}

// runAnew opens the connections that were recorded.
func (s *script) runAnew(ctx context.Context, connector driver.Connector, schema string) error {
	for _, transactions := range s.connections {
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(1)
		if err := errors.Join(s.runPart(ctx, db, transactions, schema), db.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) runPart(ctx context.Context, db *sql.DB, transactions [][]string, schema string) error {
	for _, statements := range transactions {
		if len(statements) == 1 { // its own transaction
			if _, err := db.ExecContext(ctx, strings.ReplaceAll(statements[0], s.schema, schema)); err != nil {
				return err
			}
			continue
		}
		err := inTx(ctx, db, func(tx *sql.Tx) error {
			for _, statement := range statements {
				if _, err := tx.ExecContext(ctx, strings.ReplaceAll(statement, s.schema, schema)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// recorder notes what its connections execute, as long as there is a script. The provisioner opens one
// after the other.
type recorder struct {
	*tenantpgx.Connector
	script *script
	inTx   bool
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if r.script == nil {
		return c, nil
	}
	r.script.connections = append(r.script.connections, nil)
	return recorded{c.(*tenantpgx.Conn), r}, nil
}

type recorded struct {
	*tenantpgx.Conn
	recorder *recorder
}

// last is the connection of now.
func (r *recorder) last() *[][]string { return &r.script.connections[len(r.script.connections)-1] }

func (c recorded) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	all := c.recorder.last()
	if !c.recorder.inTx {
		*all = append(*all, nil)
	}
	(*all)[len(*all)-1] = append((*all)[len(*all)-1], query)
	return c.Conn.ExecContext(ctx, query, args)
}

func (c recorded) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	all := c.recorder.last()
	*all = append(*all, nil)
	c.recorder.inTx = true
	return recordedTx{tx, c.recorder}, nil
}

type recordedTx struct {
	driver.Tx
	recorder *recorder
}

func (t recordedTx) Commit() error {
	t.recorder.inTx = false
	return t.Tx.Commit()
}
