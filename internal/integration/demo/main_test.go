package demo_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/cmd/tenancy/demo"
	"lexigram.dev/tenancy/internal/integration/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	err := servers.Stop()
	if binaryDir != "" {
		err = errors.Join(err, os.RemoveAll(binaryDir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// secret signs the tokens of every site.
const secret = "a secret that is known to the tests of the demo"

// backends are where the demo can keep its data. Each returns the options of an empty one. place is
// what the guide says of it.
var backends = []struct {
	name, place string
	open        func(t *testing.T) demo.Options
}{
	{"SQLite", "isolation database: one SQLite file per tenant", func(t *testing.T) demo.Options { return demo.Options{DataDir: t.TempDir()} }},
	{"PostgreSQL", "isolation row_level: one table behind row security in the PostgreSQL database", func(t *testing.T) demo.Options {
		pg := servers.Postgres(t)
		return demo.Options{DatabaseURL: pg.URL(pg.CreateDatabase(t))}
	}},
	{"PgBouncer", "isolation row_level: one table behind row security in the PostgreSQL database", func(t *testing.T) demo.Options { return throughPgBouncer(t, tenancy.StrategyRowLevel) }},
	{"schema on PostgreSQL", "isolation schema: a schema per tenant in the PostgreSQL database", func(t *testing.T) demo.Options {
		pg := servers.Postgres(t)
		return demo.Options{DatabaseURL: pg.URL(pg.CreateDatabase(t)), Isolation: tenancy.StrategySchema}
	}},
	{"schema through PgBouncer", "isolation schema: a schema per tenant in the PostgreSQL database", func(t *testing.T) demo.Options { return throughPgBouncer(t, tenancy.StrategySchema) }},
	{"database on PostgreSQL", "isolation database: a database per tenant, the catalogue in the PostgreSQL database", func(t *testing.T) demo.Options {
		pg := servers.Postgres(t)
		return demo.Options{DatabaseURL: pg.URL(pg.CreateDatabase(t)), Isolation: tenancy.StrategyDatabase}
	}},
	{"MariaDB", "isolation database: a database per tenant, the catalogue in the MariaDB database", func(t *testing.T) demo.Options { return demo.Options{DatabaseURL: mariaDBURL(t)} }},
	{"schema on MariaDB", "isolation schema: a schema, which is a database there, per tenant, the catalogue in the MariaDB database", func(t *testing.T) demo.Options {
		return demo.Options{DatabaseURL: mariaDBURL(t), Isolation: tenancy.StrategySchema}
	}},
	{"row_level on MariaDB", "isolation row_level: one table behind views, with a login per tenant, the catalogue in the MariaDB database", func(t *testing.T) demo.Options {
		return demo.Options{DatabaseURL: mariaDBURL(t), Isolation: tenancy.StrategyRowLevel}
	}},
}

// mariaDBURL returns the superuser's URL of an empty database.
func mariaDBURL(t *testing.T) string {
	server := servers.MariaDB(t)
	u := url.URL{Scheme: "mysql", User: url.UserPassword("root", server.Password()), Host: server.Addr(), Path: "/" + server.CreateDatabase(t)}
	return u.String()
}

// throughPgBouncer makes the roles first, so that PgBouncer can be told of them.
func throughPgBouncer(t *testing.T, strategy string) demo.Options {
	pg := servers.Postgres(t)
	database := pg.CreateDatabase(t)
	opts := demo.Options{DatabaseURL: pg.URL(database), Isolation: strategy, Environ: []string{}}
	first, err := demo.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	bouncer := servers.PgBouncer(t, pg)
	db, err := sql.Open("pgx", opts.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT role, password FROM tenancy_demo.logins WHERE role <> '(key)'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var role, password string
		if err := rows.Scan(&role, &password); err != nil {
			t.Fatal(err)
		}
		bouncer.AddUser(t, role, password)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	opts.PoolerURL = bouncer.URL(database)
	return opts
}

// onEachBackend runs test on a demo of its own for each backend.
func onEachBackend(t *testing.T, test func(t *testing.T, s *site)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, b.open(t)))
		})
	}
}

// site is a demo that runs, and its address.
type site struct {
	*demo.App
	addr string
	// stop ends it as Ctrl-C does and returns what Serve returned. It may be repeated.
	stop func() error
}

func start(t *testing.T, opts demo.Options) *site {
	t.Helper()
	opts.JWTSecret = secret
	if opts.Environ == nil {
		opts.Environ = []string{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	app, err := demo.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- app.Serve(ctx, ln) }()
	s := &site{App: app, addr: ln.Addr().String()}
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := app.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// call is a request, as far as it departs from a plain GET of /whoami.
type call struct {
	method, path, body string
	host               string // the subdomain's label, or ""
	token              string
	header             http.Header
}

// The ways to name a tenant. A claim is in the token, so the user is needed for it.
var resolvers = []string{"jwt_claim", "header", "subdomain", "path"}

// naming returns c as the user's, naming the tenant by that resolver.
func (s *site) naming(t *testing.T, resolver, user, tenant string, c call) call {
	t.Helper()
	claim := ""
	c.path = orElse(c.path, "/whoami")
	switch resolver {
	case "jwt_claim":
		claim = tenant
	case "header":
		c.header = http.Header{"X-Tenant-Id": {tenant}}
	case "subdomain":
		c.host = tenant
	case "path":
		c.path = "/tenants/" + tenant + c.path
	}
	if user != "" {
		c.token = s.token(t, user, claim)
	}
	return c
}

func (s *site) token(t *testing.T, user, tenant string) string {
	t.Helper()
	token, err := s.Token(user, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// as returns c as the user's, with a tenant in the claim.
func (s *site) as(t *testing.T, user, tenant string, c call) call {
	t.Helper()
	return s.naming(t, "jwt_claim", user, tenant, c)
}

type answer struct {
	status int
	header http.Header
	body   string
}

var client = &http.Client{
	Timeout:       time.Minute,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 500},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends the request and returns the whole answer.
func (s *site) do(t *testing.T, c call) answer {
	t.Helper()
	a, err := s.send(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *site) send(ctx context.Context, c call) (answer, error) {
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(ctx, orElse(c.method, "GET"), "http://"+s.addr+orElse(c.path, "/whoami"), body)
	if err != nil {
		return answer{}, err
	}
	if c.host != "" {
		_, port, _ := net.SplitHostPort(s.addr)
		req.Host = c.host + ".localhost:" + port
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, c.header)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(content)}, err
}

// want fails the test unless the answer has that status, and returns it.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// decode reads the JSON body.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if got := a.header.Get("Content-Type"); got != "application/json" && got != "application/problem+json" {
		t.Fatalf("Content-Type %q of %s", got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

type problem struct {
	Type, Title, Detail, Code string
	Status                    int
}

// problem fails the test unless the answer is a problem document of that status and code.
func (a answer) problem(t *testing.T, status int, code string) problem {
	t.Helper()
	p := decode[problem](t, a.want(t, status))
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", got)
	}
	if p.Status != status || p.Title == "" || p.Type == "" || (code != "" && p.Code != code) {
		t.Errorf("problem %s, want status %d, code %q, a type and a title", a.body, status, code)
	}
	return p
}

// text returns the whole answer but for the date, as it went over the wire.
func (a answer) text() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, a.status)
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		if name != "Date" {
			fmt.Fprintln(&b, name, a.header[name])
		}
	}
	return b.String() + a.body
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

type who struct {
	Tenant         struct{ ID, Slug, Name string }
	Resolver, User string
	Verified       bool
}

type note struct{ ID, Text string }

const (
	codeForbidden  = string(tenancy.CodeTenant)
	codeResolution = string(tenancy.CodeResolution)
	codeSuspended  = string(tenancy.CodeSuspended)
)
