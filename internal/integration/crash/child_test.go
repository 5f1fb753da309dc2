package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
)

// ordersVariable makes the test program a node that does what it says.
const ordersVariable = "TENANCY_CRASH_ORDERS"

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(ordersVariable); ok {
		if err := obey(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	servers.Main(m)
}

// orders are what a node does.
type orders struct {
	World  world
	Node   string
	Goals  []goal
	At     int  // the boundary at which it dies; 0 is none
	Wire   bool // boundaries are the pieces that it sends to the database server
	Start  bool // it does what is due as well, and some goals at once
	Slug   string
	Racers int // creations of Slug at once
}

// goal is where a tenant is to be brought.
type goal struct {
	Tenant string
	Status tenancy.Status
}

// answer is what a node says at its end.
type answer struct {
	Boundaries []string
	Created    int // of Racers
	Conflicts  int
}

// ready is what a node says when it has begun.
const ready = "ready"

func obey(ctx context.Context, text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	wire, steps := &points{}, &points{at: o.At}
	if o.Wire {
		wire, steps = steps, wire
		addr, err := proxy(o.World.Addr, wire)
		if err != nil {
			return err
		}
		o.World.Addr = addr
	}
	s, err := o.World.open(steps, o.Node)
	if err != nil {
		return err
	}
	if o.Start {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	fmt.Println(ready)
	var a answer
	switch {
	case o.Racers > 0:
		a, err = s.race(ctx, o.Slug, o.Racers)
	case o.Start:
		s.bringAll(ctx, o.Goals)
	default:
		for _, g := range o.Goals {
			err = errors.Join(err, s.bring(ctx, g))
		}
	}
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	a.Boundaries = steps.passed()
	if o.Wire {
		a.Boundaries = wire.passed()
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// callers is how many calls a started node has at once.
const callers = 4

// bringAll goes on until every goal is reached.
func (s *site) bringAll(ctx context.Context, goals []goal) {
	var group sync.WaitGroup
	next := make(chan goal)
	for range callers {
		group.Go(func() {
			for g := range next {
				for s.bring(ctx, g) != nil {
					time.Sleep(20 * time.Millisecond) // the runner has it, or will try again
				}
			}
		})
	}
	for _, g := range goals {
		next <- g
	}
	close(next)
	group.Wait()
}

// race creates tenants of one slug at once, when the standard input ends.
func (s *site) race(ctx context.Context, slug string, racers int) (a answer, err error) {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return a, err
	}
	var group sync.WaitGroup
	results := make(chan error, racers)
	for range racers {
		group.Go(func() {
			_, err := s.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: slug})
			results <- err
		})
	}
	group.Wait()
	close(results)
	for result := range results {
		conflict := (*tenancy.SlugConflictError)(nil)
		switch {
		case result == nil:
			a.Created++
		case errors.As(result, &conflict):
			a.Conflicts++
		default:
			err = errors.Join(err, result)
		}
	}
	return a, err
}

// child is a node in a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	lines  *bufio.Reader
	errs   bytes.Buffer
	killed bool // by its own hand or by kill
}

// launch starts a node and returns when it has begun, or has died before.
func launch(t *testing.T, o orders) *child {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	c := &child{cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), ordersVariable+"="+string(text))
	c.cmd.Stderr = &c.errs
	c.stdin, err = c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	must(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	c.lines = bufio.NewReader(out)
	if line, err := c.lines.ReadString('\n'); err == nil && line != ready+"\n" {
		t.Fatalf("node %s says %q: %s", o.Node, line, &c.errs)
	}
	return c
}

// kill ends the node at once.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// wait returns what the node said at its end. One that was killed has said nothing; any other end is
// an error of the test.
func (c *child) wait(t *testing.T) (a answer) {
	t.Helper()
	text, err := io.ReadAll(c.lines)
	must(t, err)
	err = c.cmd.Wait()
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		c.killed = true
		return a
	}
	if err != nil {
		t.Fatalf("a node failed: %v: %s", err, &c.errs)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("a node said %q: %v", text, err)
	}
	return a
}
