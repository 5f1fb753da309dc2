package pgx_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
)

// TestPoolTellsTheServerTheTenant by application_name, while its statements run and no longer.
func TestPoolTellsTheServerTheTenant(t *testing.T) {
	t.Parallel()
	o := options{pool: one, config: func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = "shop" }}
	each(t, o, func(t *testing.T, _ through, w *world) {
		long := strings.Repeat("x", 100)
		pool := w.pool.WithApplicationName(func(tenant string) string {
			if tenant == "other" {
				return long
			}
			return "shop of '" + tenant + "'"
		})
		const ask = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
		name := func(ctx context.Context, q dbtx) (name string) {
			must(t, q.QueryRow(ctx, ask).Scan(&name))
			return name
		}
		for range 3 {
			for ctx, want := range map[context.Context]string{w.acme: "shop of 'acme'", w.other: long[:63]} {
				if got := name(ctx, pool); got != want {
					t.Errorf("a statement of %q, want %q", got, want)
				}
				must(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					must(t, second(tx.Exec(ctx, "SELECT 1")))
					if got := name(ctx, tx); got != want {
						t.Errorf("a transaction of %q, want %q", got, want)
					}
					return nil
				}))
				must(t, second(pool.Exec(ctx, "SELECT set_config('application_name', 'mine', false)")))
				var b pgx.Batch
				b.Queue(ask).QueryRow(func(row pgx.Row) error {
					var got string
					err := row.Scan(&got)
					if got != want {
						t.Errorf("a batch of %q, want %q", got, want)
					}
					return err
				})
				must(t, pool.SendBatch(ctx, &b).Close())
				if got := name(ctx, w.pool); got != "shop" {
					t.Errorf("afterwards %q", got)
				}
			}
		}
		system := tenancy.AsSystem(t.Context(), "test")
		if got := name(system, pool); got == "shop of ''" {
			t.Errorf("the system is %q", got)
		}
		sees(t, w.acme, pool, "of acme")
		trips, writes := w.wire.count(func() { sees(t, w.acme, pool, "of acme") })
		if trips != 1 || writes != 1 {
			t.Errorf("%d round trips and %d writes", trips, writes)
		}
		if pool.DB() != w.db {
			t.Error("another DB")
		}
		w.made.clean(t)
	})
}
