package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
	"lexigram.dev/tenancy/internal/integration/servers"
)

var binaryDir string // removed by TestMain

// binary builds the command once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "tenancy-binary-"); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "tenancy")
	build := exec.Command("go", "build", "-o", path, "lexigram.dev/tenancy/cmd/tenancy")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	return cmd
}

// running is a demo in a process of its own.
type running struct {
	*site
	cmd   *exec.Cmd
	guide string
	errs  *output
	ended chan error
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// run starts the program and returns when it has said what to try.
func run(t *testing.T, args ...string) *running {
	t.Helper()
	r, err := launch(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// arguments are the flags for opts.
func arguments(opts demo.Options) []string {
	var args []string
	for _, f := range []struct{ name, value string }{
		{"--data", opts.DataDir},
		{"--database-url", opts.DatabaseURL},
		{"--pooler-url", opts.PoolerURL},
		{"--isolation", opts.Isolation},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	return args
}

func launch(t *testing.T, args ...string) (*running, error) {
	t.Helper()
	cmd := command(t, append([]string{"demo", "--addr", "127.0.0.1:0", "--jwt-secret", secret}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r := &running{cmd: cmd, errs: &output{}, ended: make(chan error, 1), site: &site{}}
	cmd.Stderr = r.errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	guide := make(chan string, 1)
	go func() {
		var text strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&text, lines.Text())
			if strings.Contains(lines.Text(), "Ctrl-C") {
				break
			}
		}
		guide <- text.String()
		_, _ = io.Copy(io.Discard, out)
		r.ended <- cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case r.guide = <-guide:
	case <-time.After(time.Minute):
		return nil, errors.New("the demo says nothing")
	}
	_, rest, ok := strings.Cut(r.guide, "http://")
	if !ok {
		return nil, fmt.Errorf("the demo did not start: %s%s", r.guide, r.errs)
	}
	r.addr, _, _ = strings.Cut(rest, "\n")
	return r, nil
}

// call sends c with a token that the program itself has made.
func (r *running) call(t *testing.T, user, tenant string, c call) answer {
	t.Helper()
	out, err := command(t, "token", "--user", user, "--tenant", tenant, "--jwt-secret", secret).Output()
	if err != nil {
		t.Fatal(err)
	}
	c.token = strings.TrimSpace(string(out))
	return r.do(t, c)
}

func (r *running) signal(t *testing.T, sig os.Signal) error {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("still there 30 s after %v", sig)
		return nil
	}
}

func TestThePrintedLinesWork(t *testing.T) {
	t.Parallel()
	servers.Program(t, "curl", "curl")
	r := run(t)
	paste := func(script string) (string, error) {
		shell := exec.Command("sh", "-e")
		shell.Stdin = strings.NewReader(script)
		shell.Env = append(os.Environ(), "no_proxy=*", "NO_PROXY=*")
		out, err := shell.Output()
		return string(out), err
	}
	var got []string
	for line := range strings.Lines(r.guide) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		out, err := paste(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, out)
	}
	all := strings.Join(got, "")
	for _, want := range []string{
		`"resolver":"jwt_claim","verified":true,"user":"alice"`, `"text":"Hello from acme"`, "[]\n",
		`"slug":"globex","name":"Globex Corporation"},"resolver":"jwt_claim","verified":true,"user":"bob"`,
		`"code":"LEX_ERR_TENANT_001"`, `"code":"LEX_ERR_TENANT_008"`, `{"key":"max_users","value":100}`, "Welcome to ACME Corp",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no answer has %s:\n%s", want, all)
		}
	}
	if n := strings.Count(all, "Hello from acme"); n != 4 { // written, then read by header, subdomain and path
		t.Errorf("acme's note appears %d times:\n%s", n, all)
	}
	t.Run("all at once", func(t *testing.T) {
		if out, err := paste(r.guide); err != nil || strings.Count(out, "Hello from acme") < 4 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	if len(r.guide) > 8000 || strings.Count(r.guide, "\n") > 60 {
		t.Errorf("the guide is not short:\n%s", r.guide)
	}
}

func TestCtrlCStopsCleanly(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			r := run(t)
			r.call(t, "alice", "acme", call{method: "POST", path: "/notes", body: `{"text":"x"}`}).want(t, 201)
			_, rest, _ := strings.Cut(r.guide, "tenant in ")
			dir, _, _ := strings.Cut(rest, ",")
			if _, err := os.Stat(dir); err != nil {
				t.Fatal(err)
			}
			if err := r.signal(t, sig); err != nil {
				t.Errorf("%v: %s", err, r.errs)
			}
			if r.errs.String() != "" {
				t.Errorf("it complained: %s", r.errs)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the temporary folder %s is still there: %v", dir, err)
			}
		})
	}
}

// A request under way is finished, not cut.
func TestStoppingFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	r := run(t)
	reader, writer := io.Pipe()
	token, err := command(t, "token", "--user", "alice", "--tenant", "acme", "--jwt-secret", secret).Output()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.addr+"/notes", reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answered := make(chan error, 1)
	go func() {
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusCreated {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		answered <- err
	}()
	if _, err := io.WriteString(writer, `{"text":`); err != nil { // returns when it was sent
		t.Fatal(err)
	}
	r.call(t, "alice", "acme", call{}).want(t, 200) // by now the other request has been accepted
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for { // until nobody is let in any more
		conn, err := net.DialTimeout("tcp", r.addr, time.Second)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	if _, err := io.WriteString(writer, `"in time"}`); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("%v: %s", err, r.errs)
	}
}

func TestNotesSurviveACrash(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			args := arguments(b.open(t))
			r := run(t, args...)
			first := decode[who](t, r.call(t, "alice", "acme", call{}))
			var want []note
			for i := range 5 {
				body := fmt.Sprintf(`{"text":"note %d"}`, i)
				want = append(want, decode[note](t, r.call(t, "alice", "acme", call{method: "POST", path: "/notes", body: body}).want(t, 201)))
			}
			r.call(t, "alice", "acme", call{method: "PUT", path: "/settings/max_users", body: `{"value":7}`}).want(t, 200)
			if err := r.signal(t, syscall.SIGKILL); err == nil {
				t.Error("it survived kill -9")
			}
			r = run(t, args...)
			if got := decode[who](t, r.call(t, "alice", "acme", call{})); got != first {
				t.Errorf("acme was %+v and is %+v", first, got)
			}
			got := decode[[]note](t, r.call(t, "alice", "acme", call{path: "/notes"}))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("notes %v, want %v", got, want)
			}
			if got := r.call(t, "alice", "acme", call{path: "/settings"}).body; !strings.Contains(got, `"max_users":7`) {
				t.Errorf("settings %s", got)
			}
			r.call(t, "dave", "initech", call{}).problem(t, 403, codeSuspended)
			if err := r.signal(t, syscall.SIGINT); err != nil {
				t.Errorf("%v: %s", err, r.errs)
			}
		})
	}
}

func TestTwoProcessesShareADatabase(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			args := arguments(b.open(t))
			const processes = 3
			running := make([]*running, processes) // all at once, on an empty database
			var group sync.WaitGroup
			for i := range running {
				group.Go(func() {
					var err error
					if running[i], err = launch(t, args...); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if t.Failed() {
				return
			}
			var want []note
			for i, r := range running {
				body := fmt.Sprintf(`{"text":"by process %d"}`, i)
				want = append(want, decode[note](t, r.call(t, "alice", "acme", call{method: "POST", path: "/notes", body: body}).want(t, 201)))
			}
			for _, r := range running {
				if got := decode[[]note](t, r.call(t, "carol", "acme", call{path: "/notes"})); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("notes %v, want %v", got, want)
				}
				if got := r.call(t, "bob", "globex", call{path: "/notes"}).body; got != "[]\n" {
					t.Errorf("globex has %s", got)
				}
				r.call(t, "dave", "initech", call{}).problem(t, 403, codeSuspended)
			}
			// A setting that one process changes reaches the others without a restart.
			running[0].call(t, "alice", "acme", call{path: "/settings"})
			running[1].call(t, "alice", "acme", call{path: "/settings"})
			running[0].call(t, "alice", "acme", call{method: "PUT", path: "/settings/max_users", body: `{"value":7}`}).want(t, 200)
			deadline := time.Now().Add(20 * time.Second)
			for !strings.Contains(running[1].call(t, "alice", "acme", call{path: "/settings"}).body, `"max_users":7`) {
				if time.Now().After(deadline) {
					t.Fatal("the other process does not hear of the setting")
				}
			}
			for _, r := range running {
				if err := r.signal(t, syscall.SIGINT); err != nil {
					t.Errorf("%v: %s", err, r.errs)
				}
			}
		})
	}
}

func TestMistakesAreToldClearly(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wrong := file("wrong.yaml", "tenancy:\n  resolution:\n    resolver: [header]\n    validator_cache_ttl: soon\n")
	unbuilt := file("unbuilt.yaml", "tenancy:\n  lifecycle:\n    isolation_strategy: schema\n")
	for name, c := range map[string]struct {
		args []string
		env  string
		code int
		says []string
	}{
		"a taken address":          {[]string{"demo", "--addr", taken.Addr().String()}, "", 1, []string{"in use", "--addr"}},
		"an address that is none":  {[]string{"demo", "--addr", "nowhere"}, "", 1, []string{"nowhere"}},
		"row_level on SQLite":      {[]string{"demo", "--isolation", "row_level"}, "", 2, []string{"row_level is not available on SQLite", "use database", "PostgreSQL (--database-url postgres://…)"}},
		"schema on SQLite":         {[]string{"demo", "--isolation", "schema"}, "", 2, []string{"schema is not available on SQLite", "use database", "PostgreSQL", "MariaDB (--database-url mysql://…)"}},
		"database by a pooler":     {[]string{"demo", "--isolation", "database", "--database-url", "postgres://h/d", "--pooler-url", "postgres://h/d"}, "", 2, []string{"database is not available with --pooler-url"}},
		"an unknown strategy":      {[]string{"demo", "--isolation", "rowlevel"}, "", 2, []string{`"rowlevel" is no isolation strategy`, "row_level, schema, database"}},
		"a strategy by file":       {[]string{"demo", "--addr", "127.0.0.1:0", "--config", unbuilt}, "", 1, []string{"lifecycle.isolation_strategy schema is not available on SQLite"}},
		"a strategy by variable":   {[]string{"demo", "--addr", "127.0.0.1:0"}, "LEX_TENANCY__LIFECYCLE__ISOLATION_STRATEGY=row_level", 1, []string{"row_level is not available on SQLite"}},
		"a wrong file":             {[]string{"demo", "--addr", "127.0.0.1:0", "--config", wrong}, "", 1, []string{"wrong.yaml:3", "resolvers", "wrong.yaml:4"}},
		"a missing file":           {[]string{"demo", "--addr", "127.0.0.1:0", "--config", "missing.yaml"}, "", 1, []string{"missing.yaml"}},
		"a mistyped variable":      {[]string{"demo", "--addr", "127.0.0.1:0"}, "LEX_TENANCY__RESOLUTION__HEADERNAME=x", 1, []string{"LEX_TENANCY__RESOLUTION__HEADERNAME"}},
		"a pooler of MariaDB":      {[]string{"demo", "--database-url", "mysql://h/d", "--pooler-url", "mysql://h/d"}, "", 2, []string{"--pooler-url is for PostgreSQL only"}},
		"a pooler that is none":    {[]string{"demo", "--database-url", "postgres://h/d", "--pooler-url", "mysql://h/d"}, "", 2, []string{"--pooler-url is no URL of PostgreSQL"}},
		"another engine":           {[]string{"demo", "--database-url", "oracle://u:hunter2@h/d"}, "", 2, []string{"--database-url is no URL of PostgreSQL or MariaDB", "postgres://", "mysql://"}},
		"a DSN, not a URL":         {[]string{"demo", "--database-url", "u:hunter2@tcp(h:1)/d"}, "", 2, []string{"--database-url is no URL of PostgreSQL or MariaDB"}},
		"a wrong parameter":        {[]string{"demo", "--addr", "127.0.0.1:0", "--database-url", "mysql://u:hunter2@h/d?timeout=soon"}, "", 1, []string{"--database-url", "soon"}},
		"no MariaDB there":         {[]string{"demo", "--addr", "127.0.0.1:0", "--database-url", "mysql://u:hunter2@127.0.0.1:1/d"}, "", 1, []string{"--database-url", "127.0.0.1"}},
		"no server":                {[]string{"demo", "--addr", "127.0.0.1:0", "--database-url", "postgres://u:hunter2@127.0.0.1:1/d"}, "", 1, []string{"--database-url", "127.0.0.1"}},
		"data in two places":       {[]string{"demo", "--data", "x", "--database-url", "postgres://h/d"}, "", 2, []string{"exclude each other"}},
		"a pooler alone":           {[]string{"demo", "--pooler-url", "postgres://h/d"}, "", 2, []string{"--pooler-url needs --database-url"}},
		"an unknown flag":          {[]string{"demo", "--adr", "x"}, "", 2, []string{"--adr", "--help"}},
		"an argument too many":     {[]string{"demo", "now"}, "", 2, []string{"now"}},
		"a mistyped command":       {[]string{"dmeo"}, "", 2, []string{`unknown command "dmeo"`, "demo"}},
		"no command":               {nil, "", 2, []string{"demo, ", "token"}},
		"help of a mistyped one":   {[]string{"help", "dmeo"}, "", 2, []string{`unknown command "dmeo"`}},
		"completion of no shell":   {[]string{"completion", "tcsh"}, "", 2, []string{`unknown command "tcsh"`}},
		"a token for nobody":       {[]string{"token", "--jwt-secret", "x"}, "", 2, []string{"--user is required"}},
		"a token without secret":   {[]string{"token", "--user", "alice"}, "", 2, []string{"--jwt-secret is required"}},
		"a token that has expired": {[]string{"token", "--user", "alice", "--jwt-secret", "x", "--ttl", "-1h"}, "", 2, []string{"--ttl"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := command(t, c.args...)
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
			defer stop()
			cmd.Env = append(cmd.Env, c.env)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			exit := (*exec.ExitError)(nil)
			if !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("got %v, want exit code %d", err, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("it does not say %q: %s", want, errs.String())
				}
			}
			if strings.Contains(errs.String(), "hunter2") || strings.Contains(errs.String(), "goroutine ") || out.Len() > 0 {
				t.Errorf("it says too much: %s%s", out.String(), errs.String())
			}
		})
	}
}

func TestTheGuideSaysWhereTheDataIs(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			opts := b.open(t)
			s := start(t, opts)
			guide, err := s.Guide(s.addr)
			if err != nil || !strings.Contains(guide, "# "+b.place) || strings.Contains(guide, "through a pooler") != (opts.PoolerURL != "") {
				t.Errorf("%v: the guide does not say %q:\n%s", err, b.place, guide)
			}
		})
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "application.yaml")
	err := os.WriteFile(path, []byte(`
server: {port: 1}   # another library's
tenancy:
  resolution:
    resolvers: [header, path, subdomain]
    header_name: X-Customer
    path_pattern: /c/{customer}/
    subdomain_pattern: example.test
  overrides:
    defaults: {colour: blue}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	opts := backends[0].open(t)
	opts.ConfigFile = path
	opts.Environ = []string{"LEX_TENANCY__RESOLUTION__HEADER_NAME=X-Org"}
	s := start(t, opts)
	alice := s.token(t, "alice", "globex") // the claim is not asked: no resolver reads it
	for _, c := range []call{
		{header: http.Header{"X-Org": {"acme"}}},
		{path: "/c/acme/whoami"},
	} {
		c.token = alice
		if got := decode[who](t, s.do(t, c).want(t, 200)); got.Tenant.Slug != "acme" {
			t.Errorf("bound to %+v", got)
		}
	}
	s.do(t, call{token: alice}).problem(t, 400, "")
	s.do(t, call{token: alice, header: http.Header{"X-Customer": {"acme"}}}).problem(t, 400, "")
	if got := s.do(t, call{token: alice, path: "/c/acme/settings"}).body; got != `{"colour":"blue"}`+"\n" {
		t.Errorf("settings %s", got)
	}
	guide, err := s.Guide(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"X-Org: acme", "/c/acme/notes", "--resolve acme.example.test:"} {
		if !strings.Contains(guide, want) {
			t.Errorf("the guide does not say %s:\n%s", want, guide)
		}
	}
}
