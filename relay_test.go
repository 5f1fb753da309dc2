package tenancy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenancytest"
)

// journal is what a sink has taken: by tenant, the types of its events in order. Refuse says what it
// does not take.
type journal struct {
	mu     sync.Mutex
	name   string
	taken  map[string][]string // by slug
	tries  int
	refuse func(e tenancy.Event) error
}

func newJournal(name string) *journal { return &journal{name: name, taken: map[string][]string{}} }

func (j *journal) Name() string { return j.name }

func (j *journal) Publish(_ context.Context, e tenancy.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tries++
	if j.refuse != nil {
		if err := j.refuse(e); err != nil {
			return err
		}
	}
	j.taken[e.Slug] = append(j.taken[e.Slug], fmt.Sprintf("%d %s", e.Revision, e.Type))
	return nil
}

func (j *journal) setRefuse(refuse func(e tenancy.Event) error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refuse = refuse
}

func (j *journal) attempts() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tries
}

func (j *journal) of(slug string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.taken[slug])
}

func (j *journal) tenants() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.taken)
}

var errBusy = errors.New("busy")

func busy(tenancy.Event) error { return errBusy }

// refusing refuses the events of tenants whose slug begins so.
func refusing(prefix string) func(tenancy.Event) error {
	return func(e tenancy.Event) error {
		if strings.HasPrefix(e.Slug, prefix) {
			return errBusy
		}
		return nil
	}
}

// node returns one process over a store, and its log.
func node(t testing.TB, store tenancy.Store, change func(*tenancy.Config)) (*tenancy.Tenancy, *syncBuffer) {
	t.Helper()
	log := &syncBuffer{}
	cfg := tenancy.Config{Store: store, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&cfg)
	}
	tn, err := tenancy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tn, log
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), text)
}

func withSubscriber(s tenancy.Subscriber) func(*tenancy.Config) {
	return func(c *tenancy.Config) { c.Subscribers = []tenancy.Subscriber{s} }
}

func create(t testing.TB, tn *tenancy.Tenancy, slug string) tenancy.Tenant {
	t.Helper()
	created, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: slug})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func suspend(t testing.TB, tn *tenancy.Tenancy, id string) {
	t.Helper()
	if _, err := tn.Lifecycle().Suspend(t.Context(), id, "unpaid"); err != nil {
		t.Fatal(err)
	}
}

func deliver(t testing.TB, tn *tenancy.Tenancy) {
	t.Helper()
	if err := tn.Events().Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func held(t testing.TB, tn *tenancy.Tenancy, sink string) []tenancy.Hold {
	t.Helper()
	holds, err := tn.Events().Held(t.Context(), sink, tenancy.HoldQuery{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	return holds
}

func sinkOf(t testing.TB, tn *tenancy.Tenancy, name string) tenancy.Sink {
	t.Helper()
	sinks, err := tn.Events().Sinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range sinks {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("there is no sink %q in %+v", name, sinks)
	return tenancy.Sink{}
}

var both = []string{"1 TenantProvisioned", "2 TenantSuspended"}

func TestRefusedEventComesAgainAndHoldsItsTenantOnly(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	j := newJournal("")
	j.refuse = refusing("acme")
	tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{j.Publish}, clock.Now
	})
	suspend(t, tn, create(t, tn, "acme").ID)
	create(t, tn, "globex")
	if got := j.of("globex"); !slices.Equal(got, both[:1]) || len(j.of("acme")) > 0 {
		t.Fatalf("globex has heard %v and acme %v", got, j.of("acme"))
	}
	if h := held(t, tn, tenancy.SubscribersSink); len(h) != 1 || h[0].Attempts != 1 || h[0].Error != "busy" || h[0].Parked() {
		t.Fatalf("the holds are %+v", h)
	}
	j.setRefuse(nil)
	deliver(t, tn)
	if len(j.of("acme")) > 0 {
		t.Error("it came again at once")
	}
	clock.Advance(2 * time.Second)
	create(t, tn, "hooli")
	if got := j.of("acme"); !slices.Equal(got, both) || len(j.of("hooli")) != 1 {
		t.Errorf("acme has heard %v, hooli %v", got, j.of("hooli"))
	}
	if k := sinkOf(t, tn, tenancy.SubscribersSink); k.Backlog+k.Held+k.Parked != 0 || k.Until.After(clock.Now()) {
		t.Errorf("at last the sink is %+v", k)
	}
}

func TestWaitsGrowAndStayApart(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	j := newJournal("")
	j.refuse = busy
	tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{j.Publish}, clock.Now
	})
	create(t, tn, "acme")
	waits := map[time.Duration]bool{}
	for attempt := 1; attempt <= 12; attempt++ {
		h := held(t, tn, tenancy.SubscribersSink)
		if len(h) != 1 || h[0].Attempts != attempt {
			t.Fatalf("after attempt %d the holds are %+v", attempt, h)
		}
		wait, about := h[0].Due.Sub(clock.Now()), min(time.Second<<(attempt-1), 5*time.Minute)
		if wait < about*3/4 || wait > about*5/4 {
			t.Errorf("after attempt %d it waits for %s; want about %s", attempt, wait, about)
		}
		if attempt >= 10 {
			waits[wait] = true
		}
		clock.Advance(wait)
		deliver(t, tn)
	}
	if len(waits) < 2 {
		t.Errorf("the longest waits are all alike: %v", waits)
	}
}

// A subscriber and a publisher that fail for ten minutes lose nothing, block nobody else and not each
// other, and get each tenant's events in order.
func TestL04TenMinutesOfFailureLoseNothingAndBlockNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		subscriber, failing, fine := newJournal(""), newJournal("broker"), newJournal("audit")
		tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
			c.Subscribers = []tenancy.Subscriber{subscriber.Publish}
			c.Publishers = []tenancy.Publisher{failing, fine}
		})
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		subscriber.setRefuse(refusing("acme"))
		failing.setRefuse(busy)
		var slugs []string
		for minute := range 10 {
			for _, name := range []string{"acme", "globex"} {
				slug := fmt.Sprintf("%s-%d", name, minute)
				slugs = append(slugs, slug)
				suspend(t, tn, create(t, tn, slug).ID)
				if name == "globex" && !slices.Equal(subscriber.of(slug), both) {
					t.Fatalf("minute %d: %s has heard %v", minute, slug, subscriber.of(slug))
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, slug := range slugs {
				if got := fine.of(slug); !slices.Equal(got, both) {
					t.Fatalf("minute %d: the other publisher has %v of %s", minute, got, slug)
				}
			}
		}
		if len(subscriber.of("acme-0")) > 0 || failing.tenants() > 0 {
			t.Fatal("what was refused counts as taken")
		}
		subscriber.setRefuse(nil)
		failing.setRefuse(nil)
		time.Sleep(7 * time.Minute) // the longest wait
		synctest.Wait()
		for _, j := range []*journal{subscriber, failing, fine} {
			for _, slug := range slugs {
				if got := j.of(slug); !slices.Equal(got, both) {
					t.Errorf("%q has %v of %s; want %v", j.name, got, slug, both)
				}
			}
		}
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Two hundred tenants whose events a sink refuses keep nobody else waiting for long.
func TestManyPoisonedTenantsBlockNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal("")
		j.refuse = refusing("bad")
		store := memstore.New()
		silent, _ := node(t, store, nil)
		for i := range 200 {
			create(t, silent, fmt.Sprintf("bad-%d", i))
		}
		for i := range 50 {
			create(t, silent, fmt.Sprintf("good-%d", i))
		}
		tn, _ := node(t, store, withSubscriber(j.Publish))
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if j.tenants() != 50 {
			t.Errorf("after a minute %d of 50 tenants have their events", j.tenants())
		}
		for i := range 20 { // from now on at once
			slug := fmt.Sprintf("new-%d", i)
			create(t, tn, slug)
			synctest.Wait() // for the poll, if that delivers just now
			if len(j.of(slug)) != 1 {
				t.Errorf("%s has to wait", slug)
			}
			time.Sleep(time.Minute)
		}
		if n := len(held(t, tn, tenancy.SubscribersSink)); n != 200 {
			t.Errorf("%d are held", n)
		}
		j.setRefuse(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if k := sinkOf(t, tn, tenancy.SubscribersSink); k.Backlog != 0 || j.tenants() != 270 {
			t.Errorf("at last %d tenants have their events and the sink is %+v", j.tenants(), k)
		}
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A sink that takes nothing at all stops where it is, and goes on by itself.
func TestSinkThatIsOutOfOrderCollectsFewHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal("broker")
		j.refuse = busy
		tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
			c.Publishers = []tenancy.Publisher{j}
			c.Events.MaxAttempts = 3
		})
		for i := range 600 {
			create(t, tn, fmt.Sprintf("t-%d", i))
		}
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		k := sinkOf(t, tn, "broker")
		if k.Held < 100 || k.Held > 450 || k.Parked > 0 || k.Backlog != 600 {
			t.Errorf("after half an hour out of order the sink is %+v", k)
		}
		j.setRefuse(nil)
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		if k := sinkOf(t, tn, "broker"); k.Backlog != 0 || j.tenants() != 600 {
			t.Errorf("12 minutes after it works again %d have their events and the sink is %+v", j.tenants(), k)
		}
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestOfManyNodesOneDeliversAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var inside, most, by [2]atomic.Int64
		j := []*journal{newJournal(""), newJournal("broker")}
		counting := func(i int) tenancy.Subscriber {
			return func(ctx context.Context, e tenancy.Event) error {
				n := inside[i].Add(1)
				defer inside[i].Add(-1)
				for {
					if old := most[i].Load(); n <= old || most[i].CompareAndSwap(old, n) {
						break
					}
				}
				by[i].Add(1)
				time.Sleep(700 * time.Millisecond)
				return j[i].Publish(ctx, e)
			}
		}
		var nodes []*tenancy.Tenancy
		for range 5 {
			tn, _ := node(t, store, func(c *tenancy.Config) {
				c.Subscribers = []tenancy.Subscriber{counting(0)}
				c.Publishers = []tenancy.Publisher{publisher{"broker", counting(1)}}
			})
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, tn)
		}
		var group sync.WaitGroup
		for i, tn := range nodes {
			group.Go(func() {
				for k := range 10 {
					suspend(t, tn, create(t, tn, fmt.Sprintf("t-%d-%d", i, k)).ID)
				}
			})
		}
		group.Wait()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for s := range 2 {
			if most[s].Load() != 1 || by[s].Load() != 100 {
				t.Errorf("sink %d: %d at once, %d hand-overs; want 1 and 100", s, most[s].Load(), by[s].Load())
			}
			for i := range nodes {
				for k := range 10 {
					if got := j[s].of(fmt.Sprintf("t-%d-%d", i, k)); !slices.Equal(got, both) {
						t.Errorf("sink %d: t-%d-%d has %v", s, i, k, got)
					}
				}
			}
		}
		for _, tn := range nodes {
			if err := tn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

type publisher struct {
	name string
	fn   tenancy.Subscriber
}

func (p publisher) Name() string                                       { return p.name }
func (p publisher) Publish(ctx context.Context, e tenancy.Event) error { return p.fn(ctx, e) }

// die ends a delivery as a killed process does: without a save and without letting go.
func die(context.Context, tenancy.Event) error {
	runtime.Goexit()
	return nil
}

func TestL04AnotherNodeTakesOverWhenTheLeaseOfAKilledOneEnds(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	store := memstore.New()
	silent, _ := node(t, store, nil)
	create(t, silent, "acme")
	killed, _ := node(t, store, func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{die}, clock.Now
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = killed.Events().Deliver(t.Context())
	}()
	<-done
	j := newJournal("")
	other, _ := node(t, store, func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{j.Publish}, clock.Now
	})
	deliver(t, other)
	clock.Advance(14 * time.Second)
	deliver(t, other)
	if j.attempts() > 0 {
		t.Fatal("two deliver at a time")
	}
	clock.Advance(time.Second)
	deliver(t, other)
	if got := j.of("acme"); !slices.Equal(got, both[:1]) {
		t.Errorf("after the lease's end the other has %v", got)
	}
}

// outbox is a memstore whose outbox can be disturbed.
type outbox struct {
	*memstore.Store
	beforeSave func(p tenancy.SinkProgress) error
}

func (o *outbox) SaveSink(ctx context.Context, p tenancy.SinkProgress) error {
	if o.beforeSave != nil {
		if err := o.beforeSave(p); err != nil {
			return err
		}
	}
	return o.Store.SaveSink(ctx, p)
}

func TestL04ACrashBeforeTheSaveMakesTheEventComeAgain(t *testing.T) {
	t.Parallel()
	store := &outbox{Store: memstore.New()}
	store.beforeSave = func(tenancy.SinkProgress) error { return errors.New("connection reset") }
	j := newJournal("")
	tn, log := node(t, store, withSubscriber(j.Publish))
	create(t, tn, "acme")
	if err := tn.Events().Deliver(t.Context()); err == nil {
		t.Error("nobody hears of the lost save")
	}
	if log.count("cannot deliver events") != 1 {
		t.Errorf("the log says so %d times; want once per change", log.count("cannot deliver events"))
	}
	store.beforeSave = nil
	deliver(t, tn)
	deliver(t, tn)
	if got := j.of("acme"); !slices.Equal(got, []string{both[0], both[0], both[0]}) {
		t.Errorf("acme has heard %v; want it thrice, once per delivery that was not saved and the one that was", got)
	}
	if log.count("delivering events again") != 1 {
		t.Error("the log does not say that it is over")
	}
}

// A process that stood still for longer than its lease must not undo what another has done since.
func TestWhoLostItsLeaseSavesNothing(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	store := memstore.New()
	first, second := newJournal(""), newJournal("")
	other, _ := node(t, store, func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{second.Publish}, clock.Now
	})
	second.refuse = refusing("globex")
	frozen, log := node(t, store, func(c *tenancy.Config) {
		c.Now = clock.Now
		c.Subscribers = []tenancy.Subscriber{func(ctx context.Context, e tenancy.Event) error {
			if e.Slug == "acme" && first.attempts() == 0 { // it stands still, and the other takes over
				clock.Advance(20 * time.Second)
				deliver(t, other)
			}
			return first.Publish(ctx, e)
		}}
	})
	silent, _ := node(t, store, nil)
	for _, slug := range []string{"acme", "globex", "hooli"} {
		create(t, silent, slug)
	}
	deliver(t, frozen)
	if first.attempts() != 1 || len(first.of("acme")) != 1 {
		t.Errorf("who lost the lease went on: %v", first.taken)
	}
	if log.count("another process changed a sink") != 1 {
		t.Error("the log does not say that it was lost")
	}
	if h := held(t, other, tenancy.SubscribersSink); len(h) != 1 || h[0].Attempts != 1 {
		t.Errorf("the other's hold is gone: %+v", h)
	}
	if got := second.of("hooli"); len(got) != 1 {
		t.Errorf("hooli has %v", got)
	}
	deliver(t, frozen)
	if first.attempts() != 1 {
		t.Error("the cursor went back")
	}
}

func TestPanicIsARefusalWithItsStackInTheLog(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	j := newJournal("")
	j.refuse = func(e tenancy.Event) error {
		if e.Slug == "acme" {
			panic("nil map")
		}
		return nil
	}
	tn, log := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers = []tenancy.Subscriber{j.Publish}
		c.Publishers = []tenancy.Publisher{publisher{"broker", func(context.Context, tenancy.Event) error { panic("broker down") }}}
		c.Now = clock.Now
	})
	create(t, tn, "acme")
	create(t, tn, "globex")
	deliver(t, tn)
	if len(j.of("globex")) != 1 {
		t.Error("a panic keeps other tenants from hearing")
	}
	if h := held(t, tn, tenancy.SubscribersSink); len(h) != 1 || h[0].Error != "panic: nil map" {
		t.Errorf("the holds are %+v", h)
	}
	if h := held(t, tn, "broker"); len(h) != 2 || h[0].Error != "panic: broker down" {
		t.Errorf("the publisher's holds are %+v", h)
	}
	if log.count("panicked") != 3 || log.count("relay_test.go") == 0 {
		t.Errorf("the log has %d panics; want 3 with their stacks", log.count("panicked"))
	}
	j.setRefuse(nil)
	clock.Advance(2 * time.Second)
	deliver(t, tn)
	if len(j.of("acme")) != 1 {
		t.Error("the refused event does not come again")
	}
}

func TestStopEndsADeliveryWithoutARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		silent, _ := node(t, store, nil)
		for _, slug := range []string{"acme", "globex", "hooli"} {
			create(t, silent, slug)
		}
		entered := make(chan struct{}, 10)
		tn, log := node(t, store, withSubscriber(func(ctx context.Context, e tenancy.Event) error {
			if e.Slug != "globex" {
				return nil
			}
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}))
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-entered
		if err := tn.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h := held(t, silent, tenancy.SubscribersSink); len(h) > 0 || log.count("level=ERROR") > 0 {
			t.Errorf("the end of a delivery counts as a refusal: %+v", h)
		}
		j := newJournal("")
		next, _ := node(t, store, withSubscriber(j.Publish))
		deliver(t, next) // at once: the claim was let go
		if len(j.of("acme")) != 0 || len(j.of("globex")) != 1 || len(j.of("hooli")) != 1 {
			t.Errorf("the next process has %v; want globex and hooli, since acme's was saved", j.taken)
		}
	})
}

func TestSlowPublisherKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal("audit")
		tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
			c.Publishers = []tenancy.Publisher{j, publisher{"slow", func(ctx context.Context, _ tenancy.Event) error {
				<-ctx.Done()
				return ctx.Err()
			}}}
		})
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range 5 {
			create(t, tn, fmt.Sprintf("t-%d", i))
		}
		synctest.Wait()
		if wait := time.Since(began); wait > 0 || j.tenants() != 5 {
			t.Errorf("five changes took %s, and the other publisher has %d", wait, j.tenants())
		}
		time.Sleep(time.Minute)
		if h := held(t, tn, "slow"); len(h) == 0 || !strings.Contains(h[0].Error, "deadline") {
			t.Errorf("the slow one's holds are %+v", h)
		}
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A hand-over that takes longer than the lease keeps the sink all the same: it is renewed meanwhile.
func TestLeaseIsRenewedDuringALongHandOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		var calls atomic.Int64
		slow := func(context.Context, tenancy.Event) error { // and deaf to its context
			calls.Add(1)
			time.Sleep(time.Minute)
			return nil
		}
		silent, _ := node(t, store, nil)
		create(t, silent, "acme")
		for range 3 {
			tn, _ := node(t, store, withSubscriber(slow))
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tn.Stop(t.Context()) }()
		}
		time.Sleep(3 * time.Minute)
		if calls.Load() != 1 {
			t.Errorf("it was handed over %d times", calls.Load())
		}
	})
}

func TestSubscribersThatTookAnEventDoNotGetItAgainBecauseOfOthers(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	one, two, three := newJournal(""), newJournal(""), newJournal("")
	two.refuse = refusing("acme")
	tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers, c.Now = []tenancy.Subscriber{one.Publish, two.Publish, three.Publish}, clock.Now
	})
	suspend(t, tn, create(t, tn, "acme").ID)
	if len(one.of("acme")) != 1 || len(three.of("acme")) != 1 {
		t.Errorf("beside the one that refuses, %v and %v have heard", one.of("acme"), three.of("acme"))
	}
	for range 3 {
		clock.Advance(time.Minute)
		deliver(t, tn)
	}
	two.setRefuse(nil)
	clock.Advance(time.Minute)
	deliver(t, tn)
	for _, j := range []*journal{one, two, three} {
		if got := j.of("acme"); !slices.Equal(got, both) {
			t.Errorf("%v; want each once", got)
		}
	}
}

// parkedWorld has one tenant whose first event is parked, and its clock.
func parkedWorld(t *testing.T) (*tenancy.Tenancy, *journal, *tenancytest.Clock, tenancy.Tenant, *syncBuffer) {
	t.Helper()
	clock := tenancytest.NewClock(time.Time{})
	j := newJournal("")
	j.refuse = func(e tenancy.Event) error {
		if e.Slug == "acme" && e.Type == tenancy.TenantProvisioned {
			return errBusy
		}
		return nil
	}
	tn, log := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers, c.Now, c.Events.MaxAttempts = []tenancy.Subscriber{j.Publish}, clock.Now, 3
	})
	acme := create(t, tn, "acme")
	suspend(t, tn, acme.ID)
	for range 5 {
		clock.Advance(time.Hour)
		deliver(t, tn)
	}
	h := held(t, tn, tenancy.SubscribersSink)
	if len(h) != 1 || !h[0].Parked() || h[0].Attempts != 3 || j.attempts() != 3 || len(j.of("acme")) > 0 {
		t.Fatalf("the holds are %+v after %d attempts", h, j.attempts())
	}
	if log.count("an event is parked") != 1 {
		t.Error("the log does not say that an event is parked")
	}
	return tn, j, clock, acme, log
}

func TestParkedEventWaitsUntilItIsRetried(t *testing.T) {
	t.Parallel()
	tn, j, _, acme, _ := parkedWorld(t)
	create(t, tn, "globex")
	if len(j.of("globex")) != 1 {
		t.Error("it keeps others waiting")
	}
	if err := tn.Events().Retry(t.Context(), tenancy.SubscribersSink, acme.ID); err != nil {
		t.Fatal(err)
	}
	if h := held(t, tn, tenancy.SubscribersSink); len(h) != 1 || h[0].Parked() || h[0].Attempts != 1 {
		t.Errorf("after a retry that is refused: %+v", h)
	}
	j.setRefuse(nil)
	if err := tn.Events().Retry(t.Context(), tenancy.SubscribersSink, acme.ID); err != nil {
		t.Fatal(err)
	}
	if got := j.of("acme"); !slices.Equal(got, both) {
		t.Errorf("acme has heard %v", got)
	}
	if err := tn.Events().Retry(t.Context(), tenancy.SubscribersSink, acme.ID); !errors.Is(err, tenancy.ErrNotHeld) {
		t.Errorf("a retry of nothing: %v", err)
	}
}

func TestParkedEventsAreRetriedTogether(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	j := newJournal("")
	j.refuse = busy
	tn, _ := node(t, memstore.New(), func(c *tenancy.Config) {
		c.Subscribers, c.Now, c.Events.MaxAttempts = []tenancy.Subscriber{j.Publish}, clock.Now, 1
	})
	for i := range 230 {
		create(t, tn, fmt.Sprintf("t-%d", i))
	}
	if k := sinkOf(t, tn, tenancy.SubscribersSink); k.Parked != 230 {
		t.Fatalf("%+v", k)
	}
	j.setRefuse(nil)
	if n, err := tn.Events().RetryParked(t.Context(), tenancy.SubscribersSink); n != 230 || err != nil {
		t.Errorf("%d were retried, %v", n, err)
	}
	if k := sinkOf(t, tn, tenancy.SubscribersSink); k.Backlog != 0 || j.tenants() != 230 {
		t.Errorf("%d have their events, the sink is %+v", j.tenants(), k)
	}
}

func TestDiscardGivesUpOneEventAndSaysWhy(t *testing.T) {
	t.Parallel()
	tn, j, _, acme, log := parkedWorld(t)
	ev, ctx := tn.Events(), t.Context()
	if _, err := ev.Discard(ctx, tenancy.SubscribersSink, acme.ID, " "); !errors.Is(err, tenancy.ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
	gone, err := ev.Discard(ctx, tenancy.SubscribersSink, acme.ID, "ticket 7")
	if err != nil || gone.Type != tenancy.TenantProvisioned || gone.TenantID != acme.ID {
		t.Fatalf("discarded %+v, %v", gone, err)
	}
	if got := j.of("acme"); !slices.Equal(got, both[1:]) {
		t.Errorf("acme has heard %v; want what came after", got)
	}
	if log.count("was discarded") != 1 || log.count("ticket 7") != 1 {
		t.Error("the log does not say what was discarded, and why")
	}
	if h := held(t, tn, tenancy.SubscribersSink); len(h) > 0 {
		t.Errorf("still held: %+v", h)
	}
	for _, sink := range []string{tenancy.SubscribersSink, "unknown"} {
		if _, err := ev.Discard(ctx, sink, acme.ID, "again"); !errors.Is(err, tenancy.ErrNotHeld) {
			t.Errorf("%s: %v", sink, err)
		}
	}
}

// An operator decides while the same event is handed over once more: the decision stands.
func TestDecisionDuringADeliveryStands(t *testing.T) {
	t.Parallel()
	tn, j, clock, acme, _ := parkedWorld(t)
	ctx := t.Context()
	j.setRefuse(nil)
	operator, _ := node(t, tn.Config().Store, func(c *tenancy.Config) { c.Now = clock.Now })
	if err := operator.Events().Retry(ctx, tenancy.SubscribersSink, acme.ID); err != nil {
		t.Fatal(err)
	}
	decided := false
	j.setRefuse(func(e tenancy.Event) error {
		if e.Type != tenancy.TenantProvisioned {
			return nil
		}
		if !decided {
			decided = true
			if _, err := operator.Events().Discard(ctx, tenancy.SubscribersSink, acme.ID, "test"); err != nil {
				t.Error(err)
			}
		}
		return errBusy
	})
	deliver(t, tn)
	deliver(t, tn)
	if got := j.of("acme"); !decided || !slices.Equal(got, both[1:]) {
		t.Errorf("acme has heard %v", got)
	}
}

func TestForgottenSinkKeepsNoEvents(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	store := memstore.New()
	store.Now = clock.Now
	old, _ := node(t, store, func(c *tenancy.Config) {
		c.Publishers, c.Now = []tenancy.Publisher{newJournal("old")}, clock.Now
	})
	create(t, old, "acme")
	deliver(t, old)
	create(t, old, "globex")
	tn, _ := node(t, store, func(c *tenancy.Config) { c.Now = clock.Now })
	ctx := t.Context()
	clock.Advance(48 * time.Hour)
	if err := tn.Events().Prune(ctx); err != nil {
		t.Fatal(err)
	}
	if k := sinkOf(t, tn, "old"); k.Backlog != 1 {
		t.Errorf("what it has not taken is gone: %+v", k)
	}
	if err := old.Events().Forget(ctx, "old"); err == nil || !strings.Contains(err.Error(), "take it out of the configuration") {
		t.Errorf("by a process that has it: %v", err)
	}
	if err := tn.Events().Forget(ctx, "older"); !errors.Is(err, tenancy.ErrNoSink) {
		t.Errorf("of an unknown sink: %v", err)
	}
	if err := tn.Events().Forget(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	if err := tn.Events().Prune(ctx); err != nil {
		t.Fatal(err)
	}
	events, err := store.ReadEvents(ctx, tenancy.Position{}, "", 10)
	if err != nil || len(events) > 0 {
		t.Errorf("%d events are left, %v", len(events), err)
	}
}

func TestEventsAreKeptForTheRetentionAndABacklogIsWarnedAboutOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal("broker")
		store := memstore.New()
		tn, log := node(t, store, func(c *tenancy.Config) {
			c.Publishers, c.Events.Retention = []tenancy.Publisher{j}, time.Hour
		})
		if err := tn.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		kept := func() int {
			events, err := store.ReadEvents(t.Context(), tenancy.Position{}, "", 10_000)
			if err != nil {
				t.Fatal(err)
			}
			return len(events)
		}
		for i := range 100 {
			create(t, tn, fmt.Sprintf("t-%d", i))
		}
		time.Sleep(58 * time.Minute)
		if kept() != 100 || j.tenants() != 100 {
			t.Errorf("after 58 minutes %d are kept, %d taken", kept(), j.tenants())
		}
		j.setRefuse(busy)
		for i := range 1100 {
			create(t, tn, fmt.Sprintf("u-%d", i))
		}
		time.Sleep(2 * time.Hour)
		if kept() != 1100 {
			t.Errorf("after three hours %d are kept; want those that were not taken", kept())
		}
		if log.count("many events wait") != 1 {
			t.Errorf("%d warnings of a backlog; want one", log.count("many events wait"))
		}
		j.setRefuse(nil)
		time.Sleep(90 * time.Minute)
		if log.count("has caught up") != 1 || j.tenants() != 1200 || kept() > 0 {
			t.Errorf("at last %d are kept and %d taken, and the log says so %d times", kept(), j.tenants(), log.count("has caught up"))
		}
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestEventsNeedAnOutbox(t *testing.T) {
	t.Parallel()
	bare := struct{ tenancy.Store }{memstore.New()}
	tn, _ := node(t, bare, nil)
	ev, ctx := tn.Events(), t.Context()
	_, sinks := ev.Sinks(ctx)
	_, holds := ev.Held(ctx, "s", tenancy.HoldQuery{})
	_, discard := ev.Discard(ctx, "s", "t", "test")
	_, parked := ev.RetryParked(ctx, "s")
	for name, err := range map[string]error{
		"Deliver": ev.Deliver(ctx), "Prune": ev.Prune(ctx), "Retry": ev.Retry(ctx, "s", "t"), "Forget": ev.Forget(ctx, "s"),
		"Sinks": sinks, "Held": holds, "Discard": discard, "RetryParked": parked,
	} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Config.Store") {
			t.Errorf("%s: %v", name, err)
		}
	}
	create(t, tn, "acme")
}

func TestWhatCouldNeverBeDeliveredIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	one := newJournal("one")
	subscriber := []tenancy.Subscriber{one.Publish}
	for name, cfg := range map[string]tenancy.Config{
		"subscribers without an outbox": {Store: struct{ tenancy.Store }{memstore.New()}, Subscribers: subscriber},
		"publishers without a store":    {Directory: memstore.New(), Publishers: []tenancy.Publisher{one}},
		"two of one name":               {Store: memstore.New(), Publishers: []tenancy.Publisher{one, newJournal("one")}},
		"the subscribers' name":         {Store: memstore.New(), Publishers: []tenancy.Publisher{newJournal("subscribers")}},
		"no name":                       {Store: memstore.New(), Publishers: []tenancy.Publisher{newJournal("")}},
		"a name with a blank":           {Store: memstore.New(), Publishers: []tenancy.Publisher{newJournal("a b")}},
		"a long name":                   {Store: memstore.New(), Publishers: []tenancy.Publisher{newJournal(strings.Repeat("x", 101))}},
		"nil":                           {Store: memstore.New(), Publishers: []tenancy.Publisher{nil}},
		"a short lease":                 {Store: memstore.New(), Events: tenancy.EventsConfig{Lease: time.Millisecond}},
		"a negative lease":              {Store: memstore.New(), Events: tenancy.EventsConfig{Lease: -1}},
	} {
		var wrong *tenancy.ConfigError
		if _, err := tenancy.New(cfg); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSubscriberMayUseTheLifecycleAndLeave(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	calls := 0
	cancel := tn.Subscribe(func(ctx context.Context, e tenancy.Event) error {
		calls++
		if e.Type != tenancy.TenantProvisioned {
			return nil
		}
		_, err := tn.Lifecycle().Suspend(ctx, e.TenantID, "trial has to be confirmed")
		return err
	})
	must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
	if calls != 2 {
		t.Errorf("called %d times", calls)
	}
	cancel()
	must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "globex"}))
	if calls != 2 {
		t.Errorf("called %d times after it left", calls)
	}
}
