package servers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// open holds what the test process has started and not yet closed.
var open struct {
	sync.Mutex
	processes map[*process]struct{}
}

func register(p *process) {
	open.Lock()
	defer open.Unlock()
	if open.processes == nil {
		open.processes = map[*process]struct{}{}
	}
	open.processes[p] = struct{}{}
}

// closeRegistered closes the process unless somebody else did.
func closeRegistered(p *process) error {
	open.Lock()
	_, ok := open.processes[p]
	delete(open.processes, p)
	open.Unlock()
	if !ok {
		return nil
	}
	return p.close()
}

// Main runs the tests, stops every server and exits. It is the body of a TestMain:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
// Without it the servers stop as well, but only after the test process has ended.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Stop stops every server that this process has started and removes their files. It is for a
// TestMain that has more to do than Main.
func Stop() error {
	open.Lock()
	processes := open.processes
	open.processes = nil
	open.Unlock()
	var errs []error
	for p := range processes {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Required reports whether a missing server fails a test instead of skipping it.
func Required() bool {
	for _, name := range []string{"CI", "TENANCY_REQUIRE_SERVERS"} {
		switch strings.ToLower(os.Getenv(name)) {
		case "", "0", "false":
		default:
			return true
		}
	}
	return false
}

// Program returns the path of a program of a Debian package. A missing one ends the test, like a
// missing server.
func Program(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program, pkg)
	}
	return path
}

// missing ends a test whose server is not installed.
func missing(t testing.TB, program, pkg string) {
	t.Helper()
	const format = "%s is not installed, so this test has not run: run `make test-servers` or `apt-get install %s`"
	if Required() {
		t.Fatalf(format, program, pkg)
	}
	t.Skipf(format, program, pkg)
}

// secret returns a random password.
func secret() string { return rand.Text() }
