package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	pollInterval = 5 * time.Millisecond
)

// launch runs in front of every program: it records the process id before the program exists,
// so that there is no moment in which the program runs and the watchdog does not know it.
const launch = `echo $$ >"$0/pid" && exec "$@"`

// watch is the watchdog, one per process. It reads its standard input, whose only writer is the
// test process; at the end of the input, which the kernel delivers however the test process
// ended, it ends the recorded process and removes the folder. The recorded id is only trusted
// while its command line names the folder: an id can be in use again by a stranger.
//
// PR_SET_PDEATHSIG would be shorter, but it fires when the *thread* that started the process
// ends, which in Go can be any moment, exists on Linux only, and leaves the files.
const watch = `
dir=$1 signal=$2
while read -r _; do :; done
ours() {
	if [ -r "/proc/$pid/cmdline" ]; then args=$(tr '\000' ' ' <"/proc/$pid/cmdline")
	else args=$(ps -o args= -p "$pid"); fi
	case $args in *"$dir"*) return 0 ;; *) return 1 ;; esac
}
if read -r pid <"$dir/pid" && [ -n "$pid" ]; then
	ours && kill -s "$signal" "$pid"
	n=0
	while ours && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
	ours && kill -s KILL "$pid"
fi
rm -rf -- "$dir" || { sleep 1; rm -rf -- "$dir"; }
`

// process is a server program with a private folder and a watchdog. It starts no goroutine, so
// that a test which looks for leaked goroutines need not know about it.
type process struct {
	name       string
	dir        string
	credential *syscall.Credential
	watchdog   *exec.Cmd
	lifeline   io.Closer

	mu      sync.Mutex
	running *os.Process        // nil while the program does not run
	status  syscall.WaitStatus // how it ended
}

// newProcess makes the folder and starts the watchdog. orphan is the signal that the watchdog
// sends when the test process is gone.
func newProcess(name, orphan string) (*process, error) {
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(tempRoot(credential), "tenancy-"+name+"-")
	if err != nil {
		return nil, err
	}
	p := &process{name: name, dir: dir, credential: credential}
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	watchdog := exec.Command("/bin/sh", "-c", watch, "tenancy-watchdog", dir, orphan)
	watchdog.Dir = "/"
	// A session of its own: Ctrl-C and a signal to the group of the tests do not reach it.
	watchdog.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	lifeline, err := watchdog.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := watchdog.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watchdog of %s: %w", name, err), os.RemoveAll(dir))
	}
	p.watchdog, p.lifeline = watchdog, lifeline
	return p, nil
}

// path returns the absolute name of a file in the private folder.
func (p *process) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// write puts a file into the folder in one step, readable by the server's user only.
func (p *process) write(name, content string) error {
	temporary := p.path(name + ".new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		return err
	}
	if p.credential != nil {
		if err := os.Chown(temporary, int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return err
		}
	}
	return os.Rename(temporary, p.path(name))
}

// start runs the program with its output appended to the log.
func (p *process) start(program string, args ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return fmt.Errorf("start %s: it runs already", p.name)
	}
	log, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/bin/sh", append([]string{"-c", launch, p.dir, program}, args...)...)
	cmd.Dir = p.dir
	cmd.Env = []string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.credential}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running = cmd.Process
	return nil
}

// run runs the program to its end.
func (p *process) run(program string, args ...string) error {
	if err := p.start(program, args...); err != nil {
		return err
	}
	if err := p.wait(startTimeout); err != nil {
		return err
	}
	if p.status.ExitStatus() != 0 {
		return fmt.Errorf("%s failed:\n%s", filepath.Base(program), p.logTail())
	}
	return nil
}

// alive reports whether the program runs. It reaps a program that has ended.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return false
	}
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(p.running.Pid, &status, syscall.WNOHANG, nil)
	if pid == 0 || errors.Is(err, syscall.EINTR) {
		return true
	}
	_ = os.Remove(p.path("pid"))
	_ = p.running.Release()
	p.running, p.status = nil, status
	return false
}

// wait waits until the program has ended.
func (p *process) wait(limit time.Duration) error {
	for deadline := time.Now().Add(limit); p.alive(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not end within %s\n%s", p.name, limit, p.logTail())
		}
	}
	return nil
}

// signal sends a signal to the program if it runs.
func (p *process) signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return fmt.Errorf("signal %s: it does not run", p.name)
	}
	return p.running.Signal(s)
}

// pid returns the process id, or 0 when the program does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.Pid
}

// stop asks the program to end and kills it when it does not.
func (p *process) stop(s os.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := p.signal(s); err != nil && p.alive() {
		return err
	}
	err := p.wait(stopTimeout)
	if err != nil {
		err = errors.Join(err, p.signal(syscall.SIGKILL), p.wait(stopTimeout))
	}
	return err
}

// close ends the program and removes the folder. It takes the same way as a crash of the test
// process, so that this way is walked every time.
func (p *process) close() error {
	_ = p.lifeline.Close()
	deadline := time.Now().Add(stopTimeout)
	for p.alive() && time.Now().Before(deadline) {
		time.Sleep(pollInterval)
	}
	_ = p.watchdog.Wait()
	p.alive()
	if _, err := os.Stat(p.dir); err == nil {
		return fmt.Errorf("%s: %s is still there", p.name, p.dir)
	}
	return nil
}

// logTail returns the last lines of the log, for error messages.
func (p *process) logTail() string {
	const most = 4 << 10
	text, err := os.ReadFile(p.path("log"))
	if err != nil {
		return "no log: " + err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(bytes.TrimSpace(text))
}

// ready polls check until it succeeds, the program ends or the time is over.
func (p *process) ready(check func() error) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(2 * pollInterval) {
		if !p.alive() {
			return fmt.Errorf("%s ended during its start:\n%s", p.name, p.logTail())
		}
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %w\n%s", p.name, startTimeout, err, p.logTail())
		}
	}
}

// unprivileged returns whom to run servers as: nil for the current user, and for root, whom the
// servers refuse, the user postgres or nobody.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("servers refuse to run as root, and there is no user postgres or nobody: run the tests as another user")
}

// tempRoot returns the folder for private folders: the system's, unless another user must get
// through it and cannot.
func tempRoot(credential *syscall.Credential) string {
	root := os.TempDir()
	if credential == nil {
		return root
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
		if dir == filepath.Dir(dir) {
			return root
		}
	}
}

// freePort returns a port of 127.0.0.1 that nobody listens on. It stays below the range from
// which systems take the local ports of outgoing connections: a port of that range can be taken
// by any client while the server restarts, even by a client that connects to itself.
func freePort() (int, error) {
	const low, high = 15000, 32000
	for range 200 {
		port := low + rand.IntN(high-low) //nolint:gosec // a port is no secret
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// find returns the first of the named programs that exists: in the folders given, newest first,
// then in PATH.
func find(program string, folders ...string) (string, bool) {
	for _, folder := range folders {
		file := filepath.Join(folder, program)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode().Perm()&0o111 != 0 {
			return file, true
		}
	}
	file, err := exec.LookPath(program)
	if err != nil {
		return "", false
	}
	file, err = filepath.Abs(file)
	return file, err == nil
}

// children returns the ids of the direct children of a process.
func children(parent int) ([]int, error) {
	table, err := exec.Command("/bin/sh", "-c", `
		if [ -r /proc/self/stat ]; then cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^\([0-9]*\) (.*) [A-Za-z] \([0-9]*\) .*/\1 \2/'
		else ps -A -o pid= -o ppid=; fi; :`).Output()
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var pids []int
	for line := range strings.Lines(string(table)) {
		var pid, ppid int
		if n, _ := fmt.Sscan(line, &pid, &ppid); n == 2 && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
