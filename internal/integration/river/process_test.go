package river_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

const (
	childURL  = "TENANCY_TEST_RIVER_URL"
	childName = "TENANCY_TEST_RIVER_NODE"
)

// childLease is short, so that the test does not wait long for the end of a dead node's.
const childLease = 3 * time.Second

// child is a node in a process of its own: it says when it is started, and works until it is killed.
func child(url, name string) {
	n, err := open(context.Background(), url, nodeConfig{name: name, lease: childLease, steps: effects(name)})
	if err == nil {
		err = n.client.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("started")
	// The parent's end closes the pipe.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(0)
}

// effects are two steps; the first leaves its row before it takes its time.
func effects(name string) func(n *node) []tenancy.Step {
	return func(n *node) []tenancy.Step {
		begin := func(ctx context.Context, t *tenancy.Tenant) error {
			_, err := n.pool.Exec(ctx, "INSERT INTO effects (tenant, node) VALUES ($1, $2)", t.ID, name)
			if err == nil {
				_, err = n.pool.Exec(ctx, "SELECT pg_sleep(0.1)")
			}
			return err
		}
		return append([]tenancy.Step{{Name: "begin", Run: begin}}, effect(name)(n)...)
	}
}

func startChild(t *testing.T, w *world, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURL+"="+w.url, childName+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("node %s said %q: %v", name, line, err)
	}
	return cmd
}

func TestAKilledProcessIsFollowedByAnother(t *testing.T) {
	const tenants = 60
	w := newWorld(t)
	creator := w.open(t, nodeConfig{name: "creator", lease: childLease, steps: effects("creator")})
	creator.enqueue(t, creator.create(t, tenants)...)
	a := startChild(t, w, "a")
	startChild(t, w, "b")
	// Kill a in a step: it has a lease, and its jobs run.
	const held = "SELECT least(count(*), 1) FROM tenancy.tenants AS t, effects AS e WHERE t.id = e.tenant AND e.node = 'a' AND t.progress::jsonb->'journal'->>'owner' = 'a'"
	w.await(t, 30*time.Second, 1, held)
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.Wait()
	left := w.count(t, "SELECT count(*) FROM tenancy.tenants WHERE progress::jsonb->'journal'->>'owner' = 'a'")
	jobs := w.count(t, "SELECT count(*) FROM river_job WHERE state = 'running' AND attempted_by[1] = 'a'")
	t.Logf("the dead node left %d leases and %d jobs", left, jobs)
	if left == 0 {
		t.Fatal("the node died without a lease: the test shows nothing")
	}
	killed := time.Now()
	w.await(t, 60*time.Second, tenants, active)
	t.Logf("all %d tenants are active %s after the kill", tenants, time.Since(killed).Round(time.Millisecond))

	if n := w.count(t, "SELECT count(*) FROM tenancy.outbox WHERE event LIKE '%TenantProvisioned%'"); n != tenants {
		t.Errorf("%d tenants were told to be provisioned, want %d", n, tenants)
	}
	// Each step of a tenant ran once, but for the one in which a died.
	rows := w.count(t, "SELECT count(*) FROM effects")
	if rows < 2*tenants || rows > 2*tenants+left {
		t.Errorf("the steps left %d effects, want %d and at most one more for each of %d leases", rows, 2*tenants, left)
	}
	if n := w.count(t, "SELECT count(*) FROM (SELECT tenant FROM effects GROUP BY tenant HAVING count(*) NOT BETWEEN 2 AND 3) AS odd"); n != 0 {
		t.Errorf("%d tenants have too few or too many effects", n)
	}
}

// TestAFleetIsKilledAgainAndAgain creates tenants on nodes in processes of their own, kills them and
// starts them again, and counts in the database what was done.
func TestAFleetIsKilledAgainAndAgain(t *testing.T) {
	tenants := 40
	if text := os.Getenv("TENANCY_CRASH_TENANTS"); text != "" {
		var err error
		if tenants, err = strconv.Atoi(text); err != nil || tenants < 1 {
			t.Fatalf("TENANCY_CRASH_TENANTS is %q: give a number", text)
		}
	}
	for _, nodes := range []int{2, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			w := newWorld(t)
			w.exec(t, `CREATE TABLE stored (event text NOT NULL)`)
			w.exec(t, `CREATE FUNCTION stored() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO stored VALUES (NEW.event); RETURN NEW; END'`)
			w.exec(t, `CREATE TRIGGER stored AFTER INSERT ON tenancy.outbox FOR EACH ROW EXECUTE FUNCTION stored()`)
			creator := w.open(t, nodeConfig{name: "creator", lease: childLease, steps: effects("creator")})
			creator.enqueue(t, creator.create(t, tenants)[:tenants/2]...)
			began := time.Now()
			children := make([]*exec.Cmd, nodes)
			for i := range children {
				children[i] = startChild(t, w, fmt.Sprintf("node-%d", i))
			}
			kills, leases := 0, 0
			for kills < max(2, tenants/20) && w.count(t, active) < tenants {
				time.Sleep(rand.N(time.Second))
				i := rand.N(nodes)
				if err := children[i].Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = children[i].Wait()
				kills++
				leases += w.count(t, "SELECT count(*) FROM tenancy.tenants WHERE progress::jsonb->'journal'->>'owner' = $1", nodeName(children[i]))
				children[i] = startChild(t, w, fmt.Sprintf("node-%d-%d", i, kills))
			}
			w.await(t, 5*time.Minute, tenants, active)
			took := time.Since(began)
			t.Logf("%d nodes: %d tenants in %s, %.1f a second, while %d nodes were killed, which left %d leases",
				nodes, tenants, took.Round(time.Millisecond), float64(tenants)/took.Seconds(), kills, leases)
			if n := w.count(t, "SELECT count(*) FROM tenancy.tenants WHERE progress IS NOT NULL"); n != 0 {
				t.Errorf("%d tenants have work under way or a lease", n)
			}
			if all, each := w.count(t, "SELECT count(*) FROM stored"), w.count(t, "SELECT count(DISTINCT event::jsonb->>'tenant_id') FROM stored WHERE event LIKE '%TenantProvisioned%'"); all != tenants || each != tenants {
				t.Errorf("%d events of %d tenants were stored, want one TenantProvisioned of each of %d", all, each, tenants)
			}
			// Each step of a tenant ran once, but for those in which a node died.
			if rows, each := w.count(t, "SELECT count(*) FROM effects"), w.count(t, "SELECT count(DISTINCT tenant) FROM effects"); each != tenants || rows < 2*tenants || rows > 2*tenants+leases {
				t.Errorf("the steps left %d effects on %d tenants, want %d and at most one more for each of %d leases", rows, each, 2*tenants, leases)
			}
		})
	}
}

// nodeName returns what a child calls itself.
func nodeName(child *exec.Cmd) (name string) {
	for _, variable := range child.Env {
		if value, found := strings.CutPrefix(variable, childName+"="); found {
			name = value
		}
	}
	return name
}
