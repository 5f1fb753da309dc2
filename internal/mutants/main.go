// Command mutants answers the question "would anybody notice if this defence were gone?". Each
// file in patches takes one defence out of the source and names the test that must fail then.
// The command applies one patch at a time to a copy of the working tree and runs that test. It
// exits with status 1 when a test passes without its defence, when a patch no longer applies or
// does not compile, and when a named test does not exist, is skipped or fails on the whole tree.
//
// It does not look for weak spots by itself: the list is written by hand, one patch per defence.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var c config
	flag.StringVar(&c.root, "root", "", "a folder of the repository (default the current one)")
	flag.StringVar(&c.patches, "patches", "internal/mutants/patches", "the folder of the patches, in the repository")
	flag.StringVar(&c.run, "run", "", "run only the patches whose file name matches this regular expression")
	flag.IntVar(&c.parallel, "parallel", 2, "how many mutants to run at a time")
	flag.DurationVar(&c.timeout, "timeout", 3*time.Minute, "limit of one test run")
	flag.BoolVar(&c.verbose, "v", false, "print what the tests print")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "mutants: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, c, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

type config struct {
	root, patches, run string
	parallel           int
	timeout            time.Duration
	verbose            bool
}

// run runs the selected mutants and prints a row for each. Its error sums up what is wrong.
func run(ctx context.Context, c config, out io.Writer) (err error) {
	top, err := gitOutput(ctx, c.root, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	c.root = strings.TrimSpace(top)
	only, err := regexp.Compile(c.run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	mutants, err := readPatches(filepath.Join(c.root, c.patches), only)
	if err != nil {
		return err
	}
	started := time.Now()
	temp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if c.verbose {
		// Rows and the output of tests alternate; rows come in the order of their ends.
		out = &lockedWriter{w: out}
	}

	workers := make([]*worker, max(1, min(c.parallel, len(mutants))))
	for i := range workers {
		w := &worker{dir: filepath.Join(temp, fmt.Sprint("tree", i)), bin: filepath.Join(temp, fmt.Sprint("test", i)), timeout: c.timeout}
		if c.verbose {
			w.log = out
		}
		if err := copyTree(ctx, c.root, w.dir); err != nil {
			return fmt.Errorf("copy the working tree: %w", err)
		}
		workers[i] = w
	}

	// First the whole tree: a test that fails anyway proves nothing.
	packages := group(mutants)
	problems := make([]error, len(packages))
	parallel(len(workers), len(packages), func(worker, i int) {
		problems[i] = workers[worker].baseline(ctx, packages[i])
	})
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("on the tree without any patch:\n%w", err)
	}

	results := make([]result, len(mutants))
	done := make([]chan struct{}, len(mutants))
	for i := range done {
		done[i] = make(chan struct{})
	}
	go parallel(len(workers), len(mutants), func(worker, i int) {
		results[i] = workers[worker].mutate(ctx, mutants[i])
		close(done[i])
	})
	t := newTable(mutants)
	fmt.Fprintln(out, t.header())
	var survived, broken []string
	for i, m := range mutants {
		<-done[i]
		fmt.Fprintln(out, t.row(m, results[i]))
		switch {
		case results[i].err != nil:
			broken = append(broken, m.file)
		case !results[i].killed:
			survived = append(survived, m.file)
		}
	}
	fmt.Fprintf(out, "\n%d mutants, %d survived, %d broken, %s\n", len(mutants), len(survived), len(broken), time.Since(started).Round(time.Second))
	var errs []error
	if len(survived) > 0 {
		errs = append(errs, fmt.Errorf("survived, so the named test does not guard the defence: %s", strings.Join(survived, ", ")))
	}
	if len(broken) > 0 {
		errs = append(errs, fmt.Errorf("broken, so the patch is to be renewed: %s", strings.Join(broken, ", ")))
	}
	return errors.Join(errs...)
}

// parallel calls do for 0 … n-1 from the given number of workers.
func parallel(workers, n int, do func(worker, i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := range next {
				do(worker, i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// table lays the rows out in columns whose widths are known before the first result.
type table struct{ defence, patch, test int }

func newTable(mutants []*mutant) table {
	t := table{len("defence"), len("patch"), len("test")}
	for _, m := range mutants {
		t.defence = max(t.defence, len([]rune(m.defence)))
		t.patch = max(t.patch, len([]rune(m.file)))
		t.test = max(t.test, len([]rune(m.target())))
	}
	return t
}

func (t table) header() string { return t.line("defence", "patch", "test", "result") }

func (t table) row(m *mutant, r result) string {
	return t.line(m.defence, m.file, m.target(), r.String())
}

func (t table) line(defence, patch, test, result string) string {
	return fmt.Sprintf("%-*s  %-*s  %-*s  %s", t.defence, defence, t.patch, patch, t.test, test, result)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// gitOutput runs git in a folder.
func gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}
