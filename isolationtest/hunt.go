package isolationtest

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy/isolation"
)

// Plan says how long and how hard [Hunt] looks. A zero field takes its default.
type Plan struct {
	// Duration ends the hunt. Defaults to 5 seconds.
	Duration time.Duration
	// Operations ends the hunt as well, about. 0 is no bound.
	Operations int64
	// LeastOperations, and LeastFaults of each kind, make the hunt go on past Duration until there
	// were so many, for four times as long at most. Once there were LeastFaults killed connections,
	// or restarts, they come a tenth as often.
	LeastOperations, LeastFaults int64
	// Workers is the number of goroutines of each tenant. Defaults to 4.
	Workers int
	// Conns is the size of the largest pool; smaller ones, from 1 on, are used beside it. It
	// needs Handle.Open. Defaults to 4.
	Conns int
	// Seed chooses the operations. Defaults to a random one, which is logged. The same seed makes
	// each worker choose the same operations; how they meet is up to the machine.
	Seed uint64
	// Faults are what goes wrong on purpose. Defaults to [Faults] of the handle.
	Faults []Fault
	// KillEvery is the time between two killed connections, about. Defaults to 80 milliseconds:
	// after each, somebody has to connect again, which takes more time than most operations.
	KillEvery time.Duration
	// RestartEvery is the time between two restarts of the server, about. Defaults to 5 seconds.
	RestartEvery time.Duration
}

// An Option changes the plan of a hunt.
type Option func(plan *Plan)

func newPlan(h Handle, options []Option) Plan {
	var p Plan
	for _, option := range options {
		option(&p)
	}
	p.Duration = cmp.Or(p.Duration, 5*time.Second)
	p.Workers = cmp.Or(p.Workers, 4)
	p.Conns = cmp.Or(p.Conns, 4)
	p.Seed = cmp.Or(p.Seed, rand.Uint64())
	p.KillEvery = cmp.Or(p.KillEvery, 80*time.Millisecond)
	p.RestartEvery = cmp.Or(p.RestartEvery, 5*time.Second)
	if p.Faults == nil {
		p.Faults = Faults(h)
	}
	return p
}

func (p Plan) validate(h Handle) error {
	var errs []error
	if p.Duration < 0 || p.Operations < 0 || p.LeastOperations < 0 || p.LeastFaults < 0 || p.Workers < 0 || p.Conns < 0 || p.KillEvery < 0 || p.RestartEvery < 0 {
		errs = append(errs, errors.New("isolationtest.Plan: a number is negative: leave it 0 for the default"))
	}
	for _, f := range p.Faults {
		if !slices.Contains(Faults(h), f) {
			errs = append(errs, fmt.Errorf("isolationtest.Plan.Faults: the handle cannot do %q: choose from %q", f, Faults(h)))
		}
	}
	return errors.Join(errs...)
}

const (
	roundTime     = 1500 * time.Millisecond // between two audits
	operationTime = 30 * time.Second        // after which an operation counts as stuck
	settleTime    = 10 * time.Second        // for connections and goroutines to come back
)

// hunt is one run of Hunt.
type hunt struct {
	Handle
	texts
	base    context.Context // inside no tenant
	plan    Plan
	targets []*target
	ledgers map[string]*ledger
	workers []*worker
	tally   tally
	over    atomic.Bool                        // something was found
	stop    atomic.Pointer[context.CancelFunc] // ends the round

	restarted time.Time
}

// target is a handle with one size of its pool.
type target struct {
	DB
	name     string
	weight   int                  // how often it is chosen
	prepared map[string]*sql.Stmt // by text; shared by all tenants
}

// Hunt looks for unknown leaks by random operations of all tenants at once, and fails the test
// with whatever it finds. It logs what it did and returns it. It ends at its first finding.
//
// A write that was acknowledged must be there. One that failed for a reason that leaves its
// outcome open, such as a lost connection, may be there or not, but never in another tenant.
func Hunt(t testing.TB, h Handle, options ...Option) Summary {
	t.Helper()
	h, end := start(t, h)
	defer end()
	plan := newPlan(h, options)
	if err := plan.validate(h); err != nil {
		t.Fatal(err)
	}
	hu := &hunt{Handle: h, texts: newTexts(h), plan: plan, ledgers: map[string]*ledger{}, restarted: time.Now()}
	hu.tally.Summary = Summary{
		Seed: plan.Seed, ByName: map[string]int64{}, Faults: map[Fault]int64{}, Errors: map[string]int64{},
	}
	label := strconv.FormatUint(rand.Uint64(), 36)
	labelled(t.Context(), label, func(ctx context.Context) {
		hu.base = ctx
		if err := hu.run(ctx); err != nil {
			t.Errorf("isolationtest: the hunt cannot work: %v", err)
		}
	})
	if stacks := goroutinesLeft(label, hu.openConnections()); stacks != "" {
		hu.found(GoroutineLeft, "%s", stacks)
	}
	s := hu.tally.snapshot()
	t.Logf("leak hunt: %v", s)
	for _, f := range s.Findings {
		t.Errorf("leak hunt: %v", f)
	}
	if len(s.Findings) > 0 {
		t.Logf("hunt again with func(p *isolationtest.Plan) { p.Seed = %d }", s.Seed)
	}
	return s
}

func (h *hunt) run(ctx context.Context) (err error) {
	began := time.Now()
	defer func() {
		h.tally.mu.Lock()
		h.tally.Elapsed = time.Since(began)
		h.tally.mu.Unlock()
	}()
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.open(ctx); err != nil {
		return err
	}
	for _, tenant := range h.Tenants {
		h.ledgers[tenant] = newLedger()
		if _, err := h.targets[0].ExecContext(h.Bind(ctx, tenant), "DELETE FROM "+h.Table); err != nil {
			return fmt.Errorf("empty the table of tenant %q: %w", tenant, err)
		}
		for range h.plan.Workers {
			h.workers = append(h.workers, newWorker(h, tenant, len(h.workers)))
		}
	}
	end, last := began.Add(h.plan.Duration), began.Add(4*h.plan.Duration)
	for !h.enough() && !h.over.Load() {
		length, now := roundTime, time.Now()
		switch {
		case now.Before(end):
			length = min(length, end.Sub(now))
		case now.After(last) || !h.short():
			h.judge()
			return nil
		}
		h.round(ctx, length)
		if !h.over.Load() {
			h.audit(ctx)
		}
	}
	h.judge()
	return nil
}

// open opens the targets. Without Handle.Open there is one, the handle itself.
func (h *hunt) open(ctx context.Context) error {
	if h.Open == nil {
		h.targets = append(h.targets, &target{DB: h.DB, name: "the handle", weight: 1})
	}
	for conns := 1; h.Open != nil && conns > 0; conns = next(conns, h.plan.Conns) {
		db, err := h.Open(conns)
		if err != nil {
			return fmt.Errorf("open a handle of %d connections: %w", conns, err)
		}
		h.targets = append(h.targets, &target{DB: db, name: fmt.Sprintf("a handle of %d connections", conns), weight: conns})
	}
	for i, target := range h.targets {
		target.prepared = map[string]*sql.Stmt{}
		for j, text := range []string{h.all, h.one, h.insert, h.update, h.remove} {
			stmt, err := target.PrepareContext(h.Bind(ctx, h.Tenants[(i+j)%len(h.Tenants)]), text)
			if err != nil {
				return fmt.Errorf("prepare %q: %w", text, err)
			}
			target.prepared[text] = stmt
		}
	}
	return nil
}

// next doubles a size up to the largest, and then returns 0.
func next(conns, largest int) int {
	if conns >= largest {
		return 0
	}
	return min(2*conns, largest)
}

// pick chooses a target; one of many connections more often, so that none holds the others up.
func (h *hunt) pick(random *rand.Rand) *target {
	sum := 0
	for _, t := range h.targets {
		sum += t.weight
	}
	n := random.IntN(sum)
	for _, t := range h.targets {
		if n -= t.weight; n < 0 {
			return t
		}
	}
	return h.targets[0] // not reached
}

func (h *hunt) close() error {
	var errs []error
	for _, t := range h.targets {
		for _, stmt := range t.prepared {
			if err := stmt.Close(); !errors.Is(err, driver.ErrBadConn) { // of a connection that was killed last
				errs = append(errs, err)
			}
		}
		if h.Open != nil {
			errs = append(errs, closeDB(t.DB))
		}
	}
	return errors.Join(errs...)
}

func (h *hunt) enough() bool {
	s := h.tally.snapshot()
	return h.plan.Operations > 0 && s.Operations >= h.plan.Operations
}

// short reports whether the hunt did less than it has to.
func (h *hunt) short() bool {
	s := h.tally.snapshot()
	return s.Operations < h.plan.LeastOperations ||
		slices.ContainsFunc(h.plan.Faults, func(f Fault) bool { return s.Faults[f] < h.plan.LeastFaults })
}

// round lets everybody work for a while and waits for all.
func (h *hunt) round(ctx context.Context, length time.Duration) {
	working, stop := context.WithTimeout(ctx, length)
	defer stop()
	h.stop.Store(&stop)
	// Operations are not ended by the end of the round: their outcome would not be known.
	operations, abort := context.WithCancel(ctx)
	defer abort()
	var wg sync.WaitGroup
	for _, w := range h.workers {
		wg.Go(func() {
			for working.Err() == nil && !h.over.Load() {
				w.operate(operations)
				if h.plan.Operations > 0 && h.enough() {
					return
				}
			}
		})
	}
	if h.disturbed() {
		wg.Go(func() { h.disturb(working, rand.New(rand.NewPCG(h.plan.Seed, uint64(time.Now().UnixNano())))) })
	}
	wg.Wait()
}

// found notes a finding and ends the hunt.
func (h *hunt) found(check Check, format string, args ...any) {
	h.tally.found(Finding{Check: check, Text: fmt.Sprintf(format, args...)})
	h.over.Store(true)
	if stop := h.stop.Load(); stop != nil {
		(*stop)()
	}
}

// audit compares all rows with all accounts while nobody works, and cleans up.
func (h *hunt) audit(ctx context.Context) {
	for _, target := range h.targets {
		h.settled(target)
	}
	total := map[string]bool{}
	for _, tenant := range h.Tenants {
		got, err := h.readSettled(h.Bind(ctx, tenant))
		if err != nil {
			h.found(UnexplainedError, "tenant %q cannot read in the audit: %v", tenant, err)
			return
		}
		h.tally.read(len(got))
		h.auditTenant(tenant, got)
		for _, r := range got {
			total[r.id] = true
		}
	}
	for _, target := range h.targets {
		if got, err := readRows(ctx, target, h.all); err == nil {
			h.found(UnboundAccess, "in the audit, %s answered a SELECT without a tenant with %d rows", target.name, len(got))
		}
	}
	h.auditSystem(ctx, total)
	if h.over.Load() {
		return
	}
	for _, w := range h.workers {
		w.bury(ctx)
	}
}

// readSettled reads all rows, and again while the server is not back.
func (h *hunt) readSettled(ctx context.Context) (got []row, err error) {
	for deadline := time.Now().Add(settleTime); ; time.Sleep(20 * time.Millisecond) {
		got, err = readRows(ctx, h.targets[len(h.targets)-1], h.all)
		if err == nil || !h.disturbed() || time.Now().After(deadline) {
			return got, err
		}
	}
}

// auditTenant compares the rows of a tenant with the accounts of its workers.
func (h *hunt) auditTenant(tenant string, got []row) {
	seen := map[string]int64{}
	for _, r := range got {
		h.checkRow(tenant, r, "the audit")
		seen[r.id] = r.n
	}
	booked := map[string]bool{}
	for _, w := range h.workers {
		if w.tenant != tenant {
			continue
		}
		for id, e := range w.account.entries {
			booked[id] = true
			version, ok := seen[id]
			if !ok {
				version = absent
			}
			if !e.allows(version) {
				h.found(LostWrite, "the audit of tenant %q: row %s is at %s; acknowledged was %s", tenant, id, versionText(version), versionText(e.now))
			}
		}
	}
	for id := range seen {
		if !booked[id] && !h.ledgers[tenant].doubtful(id) {
			h.found(PhantomRow, "the audit of tenant %q: row %s is there, and nobody was told so", tenant, id)
		}
	}
}

func versionText(version int64) string {
	if version == absent {
		return "absent"
	}
	return fmt.Sprintf("n = %d", version)
}

// checkRow checks that a row can be the tenant's.
func (h *hunt) checkRow(tenant string, r row, where string) {
	switch {
	case r.owner != tenant:
		h.found(ForeignRow, "%s: tenant %q read %v", where, tenant, r)
	case !h.ledgers[tenant].knows(r):
		h.found(PhantomRow, "%s: tenant %q read %v, which must not be there", where, tenant, r)
	}
}

// auditSystem compares what the system sees with what all tenants see.
func (h *hunt) auditSystem(ctx context.Context, tenants map[string]bool) {
	if h.System == nil {
		return
	}
	ctx = h.System(ctx)
	all, err := h.readSettled(ctx)
	if err != nil {
		h.found(UnexplainedError, "the system cannot read in the audit: %v", err)
		return
	}
	for _, r := range all {
		if !tenants[r.id] && (h.ledgers[r.owner] == nil || !h.ledgers[r.owner].doubtful(r.id)) {
			h.found(PhantomRow, "the system sees %v, which no tenant sees", r)
		}
	}
	if h.TenantColumn == "" {
		return
	}
	wrong, err := readRows(ctx, h.targets[len(h.targets)-1], h.all+" WHERE owner <> "+h.TenantColumn)
	if err != nil && !h.disturbed() {
		h.found(UnexplainedError, "the system cannot read in the audit: %v", err)
	}
	for _, r := range wrong {
		h.found(ForeignRow, "%v is stored with another tenant's id", r)
	}
}

// statsDB is a DB that counts its connections, as isolation.DB does.
type statsDB interface{ PoolStats() isolation.PoolStats }

// settled waits until all connections of a target are unused.
func (h *hunt) settled(t *target) {
	for deadline := time.Now().Add(settleTime); ; time.Sleep(5 * time.Millisecond) {
		used := inUse(t.DB)
		if used == "" {
			return
		}
		if time.Now().After(deadline) {
			h.found(ConnectionLeft, "%s is unused and has %s", t.name, used)
			return
		}
	}
}

// inUse returns which connections are in use, or "".
func inUse(db DB) string {
	if counted, ok := db.(statsDB); ok {
		if s := counted.PoolStats(); s.Open != s.Idle || s.Waiting > 0 {
			return fmt.Sprintf("%d connections in use and %d callers that wait", s.Open-s.Idle, s.Waiting)
		}
	}
	if counted, ok := db.(interface{ Stats() sql.DBStats }); ok {
		if n := counted.Stats().InUse; n > 0 {
			return fmt.Sprintf("%d connections in use", n)
		}
	}
	return ""
}

// openConnections returns how many connections may have a goroutine of their own.
func (h *hunt) openConnections() int {
	if h.Open != nil {
		return 0 // they are closed
	}
	n := 0
	if counted, ok := h.DB.(statsDB); ok {
		n += counted.PoolStats().Open
	}
	if counted, ok := h.DB.(interface{ Stats() sql.DBStats }); ok {
		n += counted.Stats().OpenConnections
	}
	return n
}

// judge reports a hunt that proves nothing.
func (h *hunt) judge() {
	s := h.tally.snapshot()
	if h.over.Load() {
		return
	}
	if s.RowsRead == 0 || s.Written == 0 {
		h.found(NoWork, "%d rows were read and %d changes acknowledged in %d operations; errors: %v",
			s.RowsRead, s.Written, s.Operations, slices.Sorted(maps.Keys(s.Errors)))
	}
	if s.Operations < enoughForFaults {
		return
	}
	for _, f := range h.plan.Faults {
		if s.Faults[f] == 0 && (f != RestartedServer || s.Elapsed > 2*h.plan.RestartEvery) {
			h.found(NoWork, "the fault %q never happened in %d operations", f, s.Operations)
		}
	}
}

// enoughForFaults is the number of operations in which every fault must have happened.
const enoughForFaults = 3000
