package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
)

// deployment runs the services of compose.yaml as processes, with the addresses of throwaway servers.
type deployment struct {
	composed
	dir     string // secrets, and what the services share
	pg      *servers.PostgresServer
	pooler  *servers.PgBouncerServer
	replace *strings.Replacer
	known   map[string]string // PgBouncer's users
}

func deploy(t *testing.T, strategy string) *deployment {
	t.Helper()
	c, err := parseCompose(readCompose(t), strategy)
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{composed: c, dir: t.TempDir(), pg: servers.NewPostgres(t, servers.PostgresConfig{}), known: map[string]string{}}
	d.pooler = servers.NewPgBouncer(t, d.pg, poolerConfig(t))
	d.superuser(t, "postgres", "CREATE DATABASE notes")
	d.makeSecrets(t)
	d.replace = strings.NewReplacer(
		"/run/secrets/", filepath.Join(d.dir, "secrets")+"/",
		"=/pooler/", "="+d.dir+"/",
		"0.0.0.0:8080", "127.0.0.1:0",
	)
	return d
}

// poolerConfig is what pgbouncer.ini says, but for its addresses and files.
func poolerConfig(t *testing.T) servers.PgBouncerConfig {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(composeDir, "pgbouncer.ini"))
	if err != nil {
		t.Fatal(err)
	}
	config := servers.PgBouncerConfig{Settings: map[string]string{}}
	_, section, ok := strings.Cut(string(content), "[pgbouncer]")
	if !ok {
		t.Fatal("pgbouncer.ini has no section [pgbouncer]")
	}
	for line := range strings.Lines(section) {
		name, value, set := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !set || strings.HasPrefix(name, ";"), name == "listen_addr", name == "listen_port", name == "auth_file":
		case name == "pool_mode":
			config.PoolMode = value
		default:
			config.Settings[name] = value
		}
	}
	if config.PoolMode != "transaction" || config.Settings["auth_type"] != "scram-sha-256" {
		t.Fatalf("pgbouncer.ini says %+v", config)
	}
	return config
}

// makeSecrets runs secrets.sh and puts the servers' addresses and the superuser's password in.
func (d *deployment) makeSecrets(t *testing.T) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(composeDir, "secrets.sh"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, "secrets.sh")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is there stays
		before := d.secrets(t)
		if out, err := exec.Command("sh", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("secrets.sh: %v: %s", err, out)
		}
		after := d.secrets(t)
		for name, secret := range before {
			if after[name] != secret {
				t.Errorf("secrets.sh made another %s", name)
			}
		}
		for name := range d.Secrets {
			if len(after[name]) < 32 {
				t.Errorf("secrets.sh made %d characters for %s", len(after[name]), name)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(d.dir, "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of secrets: %v, %v", info.Mode(), err)
	}
	for name, secret := range d.secrets(t) {
		u, err := url.Parse(secret)
		switch {
		case err != nil:
			t.Fatal(err)
		case name == "dba_url":
			u.User = url.UserPassword("postgres", d.pg.Password())
		}
		switch u.Host {
		case "postgres:5432":
			u.Host = d.pg.Addr()
		case "pgbouncer:6432":
			u.Host = d.pooler.Addr()
		default:
			continue
		}
		d.setSecret(t, name, u.String())
	}
}

func (d *deployment) secrets(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(d.dir, "secrets", "*"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(content)
	}
	return all
}

func (d *deployment) setSecret(t *testing.T, name, secret string) {
	t.Helper()
	path := filepath.Join(d.dir, "secrets", name)
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(secret), 0o400)); err != nil {
		t.Fatal(err)
	}
}

// service returns a service's command, with its environment and nothing else.
func (d *deployment) service(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	var args []string
	for _, arg := range d.Services[name].Command {
		args = append(args, d.replace.Replace(arg))
	}
	cmd := command(t, args...)
	cmd.Env = []string{"TMPDIR=" + t.TempDir()}
	for key, value := range d.Services[name].Environment {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	return cmd
}

// migrate runs the job to its end, and tells PgBouncer of its users.
func (d *deployment) migrate(t *testing.T) {
	t.Helper()
	out, err := d.service(t, "migrate").CombinedOutput()
	if err != nil || string(out) != "migrated\n" {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	list, err := os.ReadFile(filepath.Join(d.dir, "users.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(strings.ReplaceAll(line, `"`, ""))
		if len(fields) != 2 || !strings.HasPrefix(fields[1], "SCRAM-SHA-256$") {
			t.Fatalf("a user of PgBouncer without what PostgreSQL stores of a password: %d fields", len(fields))
		}
		if d.known[fields[0]] != fields[1] {
			d.known[fields[0]] = fields[1]
			d.pooler.AddUser(t, fields[0], fields[1])
		}
	}
	for _, name := range []string{"postgres", "notes_migrator"} {
		if d.known[name] != "" {
			t.Errorf("PgBouncer lets %s in", name)
		}
	}
}

// serve starts the application and returns when it serves.
func (d *deployment) serve(t *testing.T) *running {
	t.Helper()
	cmd := d.service(t, "app")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: cmd, errs: &output{}, ended: make(chan error, 1), site: &site{}}
	cmd.Stderr = r.errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		said <- line
		_, _ = io.Copy(io.Discard, out)
		r.ended <- cmd.Wait()
	}()
	select {
	case line := <-said:
		addr, ok := strings.CutPrefix(strings.TrimSpace(line), "serving on http://")
		if !ok {
			t.Fatalf("the application says %q: %s", line, r.errs)
		}
		r.addr = addr
	case <-time.After(time.Minute):
		t.Fatal("the application says nothing")
	}
	return r
}

// as returns c with a token that is signed with the deployment's secret.
func (d *deployment) as(t *testing.T, user, tenant string, c call) call {
	t.Helper()
	out, err := command(t, "token", "--user", user, "--tenant", tenant, "--jwt-secret-file", filepath.Join(d.dir, "secrets", "jwt_secret")).Output()
	if err != nil {
		t.Fatal(err)
	}
	c.token = strings.TrimSpace(string(out))
	return c
}

// healthy runs the application's healthcheck.
func (d *deployment) healthy(t *testing.T, addr string) error {
	t.Helper()
	test := d.Services["app"].Healthcheck.Test
	if len(test) < 3 || test[0] != "CMD" || test[1] != "/tenancy" {
		t.Fatalf("the healthcheck is %q", test)
	}
	return command(t, strings.Split(strings.ReplaceAll(strings.Join(test[2:], "\n"), "127.0.0.1:8080", addr), "\n")...).Run()
}

func (d *deployment) superuser(t *testing.T, database, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", d.pg.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// login opens a login by its secret, as the application does: through PgBouncer.
func (d *deployment) login(t *testing.T, secret, database string) *sql.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.secrets(t)[secret])
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	if database != "" {
		cfg.Database = database
	}
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// all is everything that the server holds, roles and passwords included.
func (d *deployment) all(t *testing.T) string {
	t.Helper()
	dump, err := exec.LookPath("pg_dumpall")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dump, "--dbname", d.pg.URL("postgres"))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+d.pg.Password()) // it connects once more for each database
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("pg_dumpall: %v: %s", err, errs.String())
	}
	var kept strings.Builder
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) { // random
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestTheDeploymentOfComposeYAML(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			d := deploy(t, strategy)
			if out, err := d.service(t, "app").CombinedOutput(); err == nil {
				t.Fatalf("the application serves before the migration: %s", out)
			}
			d.migrate(t)
			before, users := d.all(t), d.stat(t, "users.txt")
			d.migrate(t)
			if after := d.all(t); after != before {
				t.Errorf("a second migration changes something: %s", firstDifference(before, after))
			}
			if now := d.stat(t, "users.txt"); !os.SameFile(users, now) || !now.ModTime().Equal(users.ModTime()) {
				t.Error("a second migration writes PgBouncer's users again")
			}

			r := d.serve(t)
			if err := d.healthy(t, r.addr); err != nil {
				t.Errorf("it serves and is not healthy: %v", err)
			}
			r.do(t, d.as(t, "alice", "acme", call{method: "POST", path: "/notes", body: `{"text":"of acme"}`})).want(t, 201)
			r.do(t, d.as(t, "bob", "globex", call{method: "POST", path: "/notes", body: `{"text":"of globex"}`})).want(t, 201)
			for user, tenant := range map[string]string{"alice": "acme", "bob": "globex"} {
				got := decode[[]note](t, r.do(t, d.as(t, user, tenant, call{path: "/notes"})).want(t, 200))
				if len(got) != 1 || got[0].Text != "of "+tenant {
					t.Errorf("%s reads %+v", tenant, got)
				}
			}
			r.do(t, d.as(t, "mallory", "acme", call{header: map[string][]string{"X-Tenant-Id": {"globex"}}})).want(t, 200) // her token says acme
			r.do(t, d.as(t, "mallory", "", call{header: map[string][]string{"X-Tenant-Id": {"acme"}}})).problem(t, 403, codeForbidden)
			d.theLoginsAreHeldBack(t)

			if err := r.signal(t, syscall.SIGTERM); err != nil {
				t.Errorf("SIGTERM: %v: %s", err, r.errs)
			}
			if err := d.healthy(t, r.addr); err == nil {
				t.Error("it has ended and is healthy")
			}
			if secret := d.leaked(t, r.errs.String()); secret != "" {
				t.Errorf("the log has the secret %s", secret)
			}
			d.itServesOnlyWithPlainLogins(t)
		})
	}
}

// leaked names a secret of which the text has the password.
func (d *deployment) leaked(t *testing.T, text string) string {
	t.Helper()
	for name, secret := range d.secrets(t) {
		if u, err := url.Parse(secret); err == nil && u.User != nil {
			secret, _ = u.User.Password()
		}
		if strings.TrimSpace(secret) != "" && strings.Contains(text, secret) {
			return name
		}
	}
	return ""
}

func (d *deployment) stat(t *testing.T, name string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%q became %q", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines became %d", len(x), len(y))
}

// theLoginsAreHeldBack tries what no login of run time may do, through PgBouncer.
func (d *deployment) theLoginsAreHeldBack(t *testing.T) {
	t.Helper()
	tables := d.notes(t)
	if len(tables) == 0 {
		t.Fatal("there are no notes anywhere")
	}
	try := func(secret, database, statement string, allowed bool) {
		t.Helper()
		_, err := d.login(t, secret, database).ExecContext(t.Context(), statement)
		refused, _ := errors.AsType[*pgconn.PgError](err)
		if allowed && err != nil || !allowed && refused == nil {
			t.Errorf("%s: %s: got %v", secret, statement, err)
		}
	}
	for _, at := range tables {
		// Whoever asks without a tenant gets an error, never all rows and never none.
		try("app_url", at.database, "SELECT * FROM "+at.table, false)
		for _, secret := range []string{"app_url", "system_url", "catalogue_url"} {
			try(secret, at.database, "TRUNCATE "+at.table, false)
			try(secret, at.database, "CREATE TABLE own (n int)", false)
			try(secret, at.database, "DROP TABLE "+at.table, false)
		}
		try("catalogue_url", at.database, "SELECT * FROM "+at.table, false)
	}
	try("app_url", "", "SELECT * FROM notes", false)
	try("app_url", "", "SELECT * FROM tenancy.tenants", false)
	try("system_url", "", "SELECT * FROM tenancy.tenants", false)
	try("catalogue_url", "", "SELECT * FROM tenancy.tenants", true)
	try("catalogue_url", "", "TRUNCATE tenancy.tenants", false)
	try("catalogue_url", "", "CREATE TABLE tenancy.own (n int)", false)
	try("app_url", "", "CREATE ROLE friend", false)
	for _, role := range []string{"postgres", "notes_migrator", "notes_system"} {
		try("app_url", "", "SET ROLE "+role, false)
	}
}

type table struct{ database, table string }

// notes returns where the server has notes.
func (d *deployment) notes(t *testing.T) (all []table) {
	t.Helper()
	query := func(database, statement string, each func(string)) {
		db, err := sql.Open("pgx", d.pg.URL(database))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			each(name)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	query("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate", func(database string) {
		query(database, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE tablename = 'notes'", func(name string) {
			all = append(all, table{database, name})
		})
	})
	return all
}

// itServesOnlyWithPlainLogins gives the application, one after the other, logins that could do more.
func (d *deployment) itServesOnlyWithPlainLogins(t *testing.T) {
	t.Helper()
	good := d.secrets(t)
	d.superuser(t, "notes", "CREATE ROLE notes_backdoor LOGIN PASSWORD 'hunter2hunter2' IN ROLE postgres")
	other := func(secret, user, password string) string {
		u, err := url.Parse(good[secret])
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, password)
		return u.String()
	}
	// Past the pooler, which would not let them in.
	for name, c := range map[string]struct{ secret, url, says string }{
		"the superuser's for requests":      {"app_url", good["dba_url"], "is a superuser"},
		"the superuser's for the system":    {"system_url", good["dba_url"], "is a superuser"},
		"the superuser's for the catalogue": {"catalogue_url", good["dba_url"], "is a superuser"},
		"who can become the superuser":      {"catalogue_url", other("dba_url", "notes_backdoor", "hunter2hunter2"), "is a superuser"},
		"the migrator's":                    {"app_url", good["migrator_url"], "has the migrator's login"},
		"one login for two":                 {"system_url", good["app_url"], "the same login"},
		"a login without a password":        {"app_url", other("app_url", "notes_app", ""), "without a login or its password"},
		"no URL":                            {"app_url", "hunter2hunter2", "no URL of PostgreSQL"},
		"a short secret":                    {"jwt_secret", "hunter2hunter2", "at least 32"},
		"no secret":                         {"app_url", "\n", "is empty"},
	} {
		d.setSecret(t, c.secret, c.url)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := d.service(t, "app")
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		out, err := cmd.CombinedOutput()
		stop()
		cancel()
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), c.says) || !strings.Contains(string(out), "--"+strings.ReplaceAll(c.secret, "_", "-")+"-file") {
			t.Errorf("%s: got %v, want that it refuses and says %q: %s", name, err, c.says, out)
		}
		if strings.Contains(string(out), "hunter2") || d.leaked(t, string(out)) != "" {
			t.Errorf("%s: it tells a secret: %s", name, out)
		}
		d.setSecret(t, c.secret, good[c.secret])
	}
}
