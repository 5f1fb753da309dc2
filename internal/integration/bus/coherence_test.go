package bus_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenanthttp"
	"lexigram.dev/tenancy/tenantpgx"
)

// rounds is how many suspensions are measured.
const rounds = 50

// TestSuspensionReachesOtherNodes suspends a tenant on one node and measures when a request and a
// WebSocket of another end: by the bus, which alone can tell, since these nodes poll once an hour; by
// polling while the bus is cut; and by the bus again.
func TestSuspensionReachesOtherNodes(t *testing.T) {
	overEach(t, false, func(t *testing.T, c channel) {
		w := newWorld(t)
		gate := newGate(t, c.server.Addr())
		a := w.node(t, c.bus(t, gate.addr()), time.Hour)
		b := w.node(t, c.bus(t, gate.addr()), time.Hour)
		polling := w.node(t, c.bus(t, gate.addr()), time.Second)
		for _, n := range []*node{a, b, polling} {
			eventually(t, "a subscription", func() bool { return n.bus.subscribed.Load() == 1 })
		}

		var requests, sockets, refusals []time.Duration
		for range rounds {
			open := b.openFor(t)
			begin := a.suspend(t)
			refusals = append(refusals, b.refuses(t, begin))
			request, socket := open.ended(t, begin)
			requests, sockets = append(requests, request), append(sockets, socket)
			a.activate(t)
		}
		report(t, "new requests", refusals)
		report(t, "a bound request", requests)
		report(t, "a WebSocket", sockets)

		gate.close()
		for _, n := range []*node{b, polling} { // they have dropped what they knew, and try again
			eventually(t, "a refused subscription", func() bool { return n.bus.refused.Load() > 0 })
		}
		onB, onPolling := b.openFor(t), polling.openFor(t)
		request, socket := onPolling.ended(t, a.suspend(t))
		t.Logf("with the bus cut, polling each second: a bound request after %v, a WebSocket after %v", request, socket)
		if max(request, socket) > 2500*time.Millisecond {
			t.Error("polling does not do it")
		}
		if err := onB.request.Err(); err != nil {
			t.Fatalf("the bus is not cut: %v", context.Cause(onB.request))
		}

		gate.open()
		request, socket = onB.ended(t, time.Now())
		t.Logf("after the bus was back: a bound request after %v, a WebSocket after %v", request, socket)
		if max(request, socket) > 4*time.Second { // a subscription is tried again each second
			t.Error("what was missed is not made up for")
		}
		eventually(t, "a subscription of the other node", func() bool { return a.bus.subscribed.Load() == 2 })
		a.activate(t)
		again := b.openFor(t)
		request, socket = again.ended(t, a.suspend(t))
		t.Logf("and then: a bound request after %v, a WebSocket after %v", request, socket)
		if max(request, socket) > time.Second {
			t.Error("the bus is not as before")
		}
	})
}

// report logs the median and the 99th percentile and fails when one took a second.
func report(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	last := took[len(took)-1]
	t.Logf("%d times: %s of another node: over after %v in the middle, %v in 99 of 100, %v at most",
		len(took), what, took[len(took)/2], took[(len(took)*99+99)/100-1], last)
	if last >= time.Second {
		t.Errorf("%s went on for %v", what, last)
	}
}

// world is a catalogue on PostgreSQL with the tenant acme and its member alice.
type world struct {
	url  string
	acme tenancy.Tenant
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pg := servers.Postgres(t)
	w := &world{url: pg.URL(pg.CreateDatabase(t))}
	store := w.store(t)
	must(t, store.Migrate(t.Context()))
	tn, err := tenancy.New(tenancy.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	w.acme, err = tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
	must(t, err)
	must(t, store.SetMember(t.Context(), "alice", w.acme.ID, tenancy.Member{}))
	return w
}

// store returns a handle of the catalogue with connections of its own.
func (w *world) store(t *testing.T) *sqlstore.Store {
	t.Helper()
	connector, err := tenantpgx.NewConnector(w.url)
	must(t, err)
	catalogue := sql.OpenDB(connector)
	t.Cleanup(func() { must(t, catalogue.Close()) })
	store, err := sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
	must(t, err)
	return store
}

// node is one of several processes on the catalogue, as far as a test can have several.
type node struct {
	*tenancy.Tenancy
	bus    *countingBus
	acme   string
	server *httptest.Server
}

// countingBus counts what became of subscriptions.
type countingBus struct {
	tenancy.Bus
	subscribed, refused atomic.Int64
}

func (b *countingBus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	sub, err := b.Bus.Subscribe(ctx)
	if err != nil {
		b.refused.Add(1)
		return nil, err
	}
	b.subscribed.Add(1)
	return sub, nil
}

func (w *world) node(t *testing.T, bus tenancy.Bus, poll time.Duration) *node {
	t.Helper()
	n := &node{bus: &countingBus{Bus: bus}, acme: w.acme.ID}
	var err error
	n.Tenancy, err = tenancy.New(tenancy.Config{
		Store: w.store(t), Bus: n.bus, Logger: slog.New(slog.DiscardHandler),
		Resolution: tenancy.ResolutionConfig{PollInterval: poll, TrustedResolvers: []string{}},
	})
	must(t, err)
	must(t, n.Start(t.Context()))
	t.Cleanup(func() { must(t, n.Stop(context.Background())) })
	bind := tenanthttp.Middleware(n.Tenancy, tenanthttp.Config{Identity: func(r *http.Request) (tenancy.Identity, error) {
		return tenancy.Identity{UserID: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}, nil
	}})
	n.server = httptest.NewServer(bind(tenanthttp.Guard(http.HandlerFunc(live))))
	t.Cleanup(n.server.Close)
	return n
}

// live reads from a WebSocket until its request ends.
func live(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	for err == nil {
		_, _, err = conn.Read(r.Context())
	}
}

// open is what alice has under way at a node.
type open struct {
	request context.Context
	socket  <-chan struct{} // closed when her end of the WebSocket is
}

// openFor waits until the node knows that the tenant is active, and opens.
func (n *node) openFor(t *testing.T) *open {
	t.Helper()
	header := http.Header{"X-Tenant-Id": {"acme"}, "Authorization": {"Bearer alice"}}
	parent, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	o := &open{}
	eventually(t, "a binding", func() bool {
		o.request = n.Bind(parent, &tenancy.Request{Header: header, Identity: tenancy.Identity{UserID: "alice"}})
		_, err := tenancy.Require(o.request)
		return err == nil
	})
	o.request.Done() // a request is watched from the moment that somebody asks
	conn, _, err := websocket.Dial(parent, n.server.URL, &websocket.DialOptions{HTTPHeader: header})
	must(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	closed := make(chan struct{})
	o.socket = closed
	go func() {
		defer close(closed)
		_, _, _ = conn.Read(parent)
	}()
	return o
}

// refuses asks until the node answers that alice's tenant is suspended, and returns how long after begin
// that was.
func (n *node) refuses(t *testing.T, begin time.Time) (took time.Duration) {
	t.Helper()
	eventually(t, "a refusal", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.server.URL, http.NoBody)
		must(t, err)
		r.Header = http.Header{"X-Tenant-Id": {"acme"}, "Authorization": {"Bearer alice"}}
		answer, err := n.server.Client().Do(r)
		must(t, err)
		must(t, answer.Body.Close())
		took = time.Since(begin)
		return answer.StatusCode == http.StatusForbidden
	})
	return took
}

// ended waits until all of it is over, and returns how long after begin that was.
func (o *open) ended(t *testing.T, begin time.Time) (request, socket time.Duration) {
	t.Helper()
	limit := time.After(20 * time.Second)
	requests, sockets := o.request.Done(), o.socket
	for requests != nil || sockets != nil {
		select {
		case <-requests:
			requests, request = nil, time.Since(begin)
		case <-sockets:
			sockets, socket = nil, time.Since(begin)
		case <-limit:
			t.Fatalf("the other node goes on: a request %t, a WebSocket %t", requests != nil, sockets != nil)
		}
	}
	mustBe(t, context.Cause(o.request), tenancy.ErrSuspended)
	return request, socket
}

// suspend returns when it began.
func (n *node) suspend(t *testing.T) time.Time {
	t.Helper()
	begin := time.Now()
	_, err := n.Lifecycle().Suspend(t.Context(), n.acme, "unpaid")
	must(t, err)
	return begin
}

func (n *node) activate(t *testing.T) {
	t.Helper()
	_, err := n.Lifecycle().Activate(t.Context(), n.acme)
	must(t, err)
}
