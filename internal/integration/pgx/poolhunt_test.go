package pgx_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// TestPoolHunt lets many goroutines of several tenants do everything that a Pool can, while contexts
// end, callbacks panic, rows stay open and connections are killed. Every row begins with the tenant
// that it was written for. No reader may see another's, no acknowledged row may be missing, none that
// was rolled back may be there. It ends when each kind of operation has succeeded often enough, and
// not before TENANCY_POOL_HUNT, such as 10m, is over.
func TestPoolHunt(t *testing.T) {
	t.Parallel()
	var length time.Duration
	if text := os.Getenv("TENANCY_POOL_HUNT"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		must(t, err)
	}
	for _, path := range paths {
		for conns := 1; conns <= 4; conns += 3 {
			t.Run(fmt.Sprintf("%s with %d connections", path, conns), func(t *testing.T) {
				t.Parallel()
				w := openWith(t, path, options{
					pool:   isolation.PoolConfig{MaxConns: conns, MaxPerTenant: conns, MaxWait: 5 * time.Second},
					server: 3,
				})
				h := &hunt{world: w, kept: make(map[string]int), gone: make(map[string]bool)}
				h.run(t, length)
				h.check(t)
			})
		}
	}
}

type hunt struct {
	*world
	serial atomic.Int64

	mu   sync.Mutex
	kept map[string]int  // rows that were acknowledged, and how often the hunt saw them at the end
	gone map[string]bool // rows that were rolled back
	done [8]int          // operations that succeeded, by kind
	sum  int             // operations
}

var hunted = []string{"acme", "globex", "initech"}

func (h *hunt) run(t *testing.T, length time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), length+2*time.Minute)
	defer stop()
	began := time.Now()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for ctx.Err() == nil {
				h.step(t)
			}
		})
	}
	wg.Go(func() {
		kill := time.NewTicker(250 * time.Millisecond)
		defer kill.Stop()
		for ctx.Err() == nil {
			<-kill.C
			if h.enough() && time.Since(began) > length {
				stop()
			}
			_, err := h.admin.ExecContext(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = $1 AND usename = $2 ORDER BY random() LIMIT 1`, h.name, h.roles.App)
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

// enough reports whether each kind of operation has succeeded some times.
func (h *hunt) enough() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Min(h.done[:]) >= 5
}

// step does one operation of one tenant.
func (h *hunt) step(t *testing.T) {
	tenant := hunted[rand.IntN(len(hunted))]
	ctx := bind(tenant)
	if rand.IntN(4) == 0 {
		short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
		defer cancel()
		ctx = short
	}
	rows := make([]string, 1+rand.IntN(4))
	for i := range rows {
		rows[i] = fmt.Sprintf("%s %d", tenant, h.serial.Add(1))
	}
	kind := rand.IntN(len(h.done))
	var err error
	func() {
		defer func() {
			if p := recover(); p != nil && p != "hunted" {
				panic(p)
			} else if p != nil {
				err = errors.New("the callback's panic")
				h.rolledBack(rows)
			}
		}()
		err = h.operate(ctx, t, kind, tenant, rows)
	}()
	if errors.Is(err, driver.ErrBadConn) {
		t.Errorf("driver.ErrBadConn left: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sum++
	if err == nil {
		h.done[kind]++
	}
}

const insertNote = "INSERT INTO notes (body) VALUES ($1)"

func (h *hunt) operate(ctx context.Context, t *testing.T, kind int, tenant string, rows []string) error {
	switch kind {
	case 0:
		_, err := h.pool.Exec(ctx, insertNote, rows[0])
		return h.acknowledged(err, rows[:1])
	case 1:
		var body string
		err := h.pool.QueryRow(ctx, insertNote+" RETURNING body", rows[0]).Scan(&body)
		return h.acknowledged(err, rows[:1])
	case 2:
		var b pgx.Batch
		for _, row := range rows {
			b.Queue(insertNote, row)
			b.Queue("SELECT body FROM notes ORDER BY id DESC LIMIT 5").Query(func(r pgx.Rows) error { return mine(t, tenant, r) })
		}
		return h.acknowledged(h.pool.SendBatch(ctx, &b).Close(), rows)
	case 3:
		source := pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return []any{rows[i]}, nil })
		_, err := h.pool.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, source)
		return h.acknowledged(err, rows)
	case 4:
		return h.transact(ctx, t, tenant, rows)
	case 5: // rows that are read in part
		found, err := h.pool.Query(ctx, "SELECT body FROM notes ORDER BY id DESC LIMIT 50")
		if err != nil {
			return err
		}
		defer found.Close()
		for range rand.IntN(10) {
			var body string
			if !found.Next() {
				break
			}
			if err := found.Scan(&body); err != nil {
				return err
			}
			isMine(t, tenant, body)
		}
		return nil
	case 6:
		found, err := h.pool.Query(ctx, "SELECT body FROM notes ORDER BY random() LIMIT 20")
		if err != nil {
			return err
		}
		return mine(t, tenant, found)
	default:
		_, err := h.pool.Query(context.Background(), "SELECT body FROM notes")
		if !errors.Is(err, tenancy.ErrNoTenant) {
			t.Errorf("without a tenant: %v", err)
		}
		// What a statement sets for the session is nobody's afterwards.
		_, err = h.pool.Exec(ctx, "SELECT set_config('app.tenant_id', $1, false)", tenant)
		return err
	}
}

// transact ends a transaction in one of many ways.
func (h *hunt) transact(ctx context.Context, t *testing.T, tenant string, rows []string) error {
	how := rand.IntN(5)
	callback := errors.New("the callback's")
	err := pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error {
		for i, row := range rows {
			if i == 1 {
				inner, err := tx.Begin(ctx)
				if err != nil {
					return err
				}
				if _, err := inner.Exec(ctx, insertNote, tenant+" never"); err != nil {
					return err
				}
				if err := inner.Rollback(ctx); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, insertNote, row); err != nil {
				return err
			}
		}
		switch how {
		case 0:
			return callback
		case 1:
			panic("hunted")
		case 2: // rows left open
			if _, err := tx.Query(ctx, "SELECT body FROM notes, generate_series(1, 100)"); err != nil {
				return err
			}
		case 3:
			other := bind(hunted[(rand.IntN(2)+1+slices.Index(hunted, tenant))%len(hunted)])
			if _, err := tx.Exec(other, "DELETE FROM notes"); !errors.Is(err, tenancy.ErrTenantMismatch) &&
				!errors.Is(err, isolation.ErrConnectionLost) {
				t.Errorf("inside another tenant's transaction: %v", err)
			}
		}
		found, err := tx.Query(ctx, "SELECT body FROM notes ORDER BY id DESC LIMIT 5")
		if err != nil {
			return err
		}
		return mine(t, tenant, found)
	})
	if how == 0 && errors.Is(err, callback) || how == 2 {
		if err == nil {
			t.Error("committed between rows")
		}
		h.rolledBack(rows)
		return err
	}
	return h.acknowledged(err, rows)
}

func mine(t *testing.T, tenant string, rows pgx.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return err
		}
		isMine(t, tenant, body)
	}
	return rows.Err()
}

func isMine(t *testing.T, tenant, body string) {
	if !strings.HasPrefix(body, tenant+" ") {
		t.Errorf("%s saw %q", tenant, body)
	}
}

// acknowledged notes rows that must be there from now on. After an error they may be there or not.
func (h *hunt) acknowledged(err error, rows []string) error {
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range rows {
		h.kept[row] = 0
	}
	return nil
}

// answers returns nil if the tenant can still read, which shows that nothing is stuck. The last kill may
// have left a connection whose end the pool or the pooler sees only in its next statement, and a pooler
// that has ended needs a moment to be there again.
func (h *hunt) answers(t *testing.T, tenant string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		found, err := h.pool.Query(bind(tenant), "SELECT body FROM notes")
		if err == nil {
			err = mine(t, tenant, found)
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (h *hunt) rolledBack(rows []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range rows {
		h.gone[row] = true
	}
}

// check compares the table with what was acknowledged.
func (h *hunt) check(t *testing.T) {
	t.Helper()
	rows, err := h.admin.QueryContext(t.Context(), "SELECT tenant_id, body FROM notes")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var tenant, body string
		must(t, rows.Scan(&tenant, &body))
		isMine(t, tenant, body)
		if h.gone[body] || strings.HasSuffix(body, " never") {
			t.Errorf("%q was rolled back and is there", body)
		}
		if _, ok := h.kept[body]; ok {
			h.kept[body]++
		}
	}
	must(t, rows.Err())
	for body, n := range h.kept {
		if n != 1 {
			t.Errorf("%q was acknowledged and is there %d times", body, n)
		}
	}
	for _, tenant := range hunted {
		must(t, h.answers(t, tenant))
	}
	if !h.enough() {
		t.Errorf("too few operations succeeded: by kind %v", h.done)
	}
	if s := h.pool.Stat(); s.Open != s.Idle || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
	h.made.clean(t)
	t.Logf("%d operations, successes by kind %v, %d rows acknowledged, %d rolled back, %+v", h.sum, h.done, len(h.kept), len(h.gone), h.pool.Stat())
}
