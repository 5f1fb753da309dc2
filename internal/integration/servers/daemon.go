package servers

import (
	"sync"
	"syscall"
	"testing"
)

// daemon is a server that can be ended and started again on the same port, with the same data.
type daemon struct {
	process *process
	run     func() error   // starts it and returns when it answers
	quit    syscall.Signal // shuts it down in order

	lifecycle sync.Mutex
}

// Start starts a server that Stop or Kill has ended, on the same port with the same data, and
// returns when it answers.
func (d *daemon) Start() error {
	d.lifecycle.Lock()
	defer d.lifecycle.Unlock()
	return d.run()
}

// Stop shuts the server down in order; open connections are cut.
func (d *daemon) Stop() error {
	d.lifecycle.Lock()
	defer d.lifecycle.Unlock()
	return d.process.stop(d.quit)
}

// Restart is Stop and Start.
func (d *daemon) Restart() error {
	d.lifecycle.Lock()
	defer d.lifecycle.Unlock()
	if err := d.process.stop(d.quit); err != nil {
		return err
	}
	return d.run()
}

// Kill ends the server at once with SIGKILL, as a crash does, and returns when it is gone.
func (d *daemon) Kill() error {
	d.lifecycle.Lock()
	defer d.lifecycle.Unlock()
	return d.process.stop(syscall.SIGKILL)
}

// endWith ends the server with the test.
func (d *daemon) endWith(t testing.TB, name string) {
	t.Cleanup(func() {
		if err := closeRegistered(d.process); err != nil {
			t.Errorf("stop %s: %v", name, err)
		}
	})
}

// common is a server that all tests of the process share.
type common[S any] struct {
	mu     sync.Mutex
	tried  bool
	server S
	err    error
}

// get starts the server for the first test that wants it.
func (c *common[S]) get(t testing.TB, name string, start func() (S, error)) S {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tried {
		c.tried = true
		c.server, c.err = start()
	}
	if c.err != nil {
		t.Fatalf("start %s: %v", name, c.err)
	}
	return c.server
}
