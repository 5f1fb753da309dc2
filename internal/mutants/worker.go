package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// copyTree copies what git tracks or would track, so that a mutant sees the working tree as it
// is and nothing that was built in it.
func copyTree(ctx context.Context, from, to string) error {
	list, err := gitOutput(ctx, from, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Lstat(source)
		if errors.Is(err, os.ErrNotExist) {
			continue // tracked and deleted
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a plain file", name)
		}
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, content, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// group collects the mutants that are built alike.
func group(mutants []*mutant) [][]*mutant {
	var groups [][]*mutant
	index := map[string]int{}
	for _, m := range mutants {
		key := fmt.Sprint(m.module, "\n", m.pkg, "\n", m.flags)
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], m)
	}
	return groups
}

// worker runs one mutant at a time in its own copy of the tree.
type worker struct {
	dir     string
	bin     string
	timeout time.Duration
	log     io.Writer // nil is quiet
}

type result struct {
	killed bool
	by     string // the first test that failed, or how it ended
	err    error  // the mutant could not be tried
}

func (r result) String() string {
	switch {
	case r.err != nil:
		return "BROKEN: " + r.err.Error()
	case r.killed:
		return "killed by " + r.by
	default:
		return "SURVIVED"
	}
}

// baseline demands that the tests of some mutants, all built alike, run and pass.
func (w *worker) baseline(ctx context.Context, mutants []*mutant) error {
	if err := w.build(ctx, mutants[0]); err != nil {
		return fmt.Errorf("%s: %w", mutants[0].target(), err)
	}
	var errs []error
	seen := map[string]bool{}
	for _, m := range mutants {
		if seen[m.test] {
			continue
		}
		seen[m.test] = true
		report, err := w.test(ctx, m)
		if err == nil {
			err = report.wellDone(m.test)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", m.file, m.target(), err))
		}
	}
	return errors.Join(errs...)
}

// mutate applies a patch, runs its test and takes the patch back.
func (w *worker) mutate(ctx context.Context, m *mutant) (r result) {
	if err := w.apply(ctx, m); err != nil {
		return result{err: fmt.Errorf("does not apply: %w", err)}
	}
	defer func() {
		if err := w.apply(ctx, m, "--reverse"); err != nil {
			r = result{err: fmt.Errorf("cannot be taken back: %w", err)}
		}
	}()
	if err := w.build(ctx, m); err != nil {
		return result{err: err}
	}
	report, err := w.test(ctx, m)
	if err != nil {
		return result{err: err}
	}
	if !report.failed {
		return result{}
	}
	by, err := report.failure(m.test)
	if err != nil {
		return result{err: err}
	}
	return result{killed: true, by: by}
}

func (w *worker) apply(ctx context.Context, m *mutant, flags ...string) error {
	args := append([]string{"apply", "--whitespace=nowarn"}, flags...)
	cmd := exec.CommandContext(ctx, "git", append(args, "-")...)
	cmd.Dir = w.dir
	// Not as a part of a repository that the temporary folder happens to be in, nor of the one
	// whose hook runs this command.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	cmd.Env = append(cmd.Env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(w.dir))
	cmd.Stdin = strings.NewReader(m.diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// build compiles the test program of the mutant's package.
func (w *worker) build(ctx context.Context, m *mutant) error {
	if err := os.Remove(w.bin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args := append([]string{"test", "-c", "-o", w.bin}, m.flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, m.pkg)...)
	cmd.Dir = filepath.Join(w.dir, m.module)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("does not compile: %w: %s", err, bytes.TrimSpace(out))
	}
	if _, err := os.Stat(w.bin); err != nil {
		return fmt.Errorf("%s has no tests", m.pkg)
	}
	return nil
}

// report is what a run of a test program has said.
type report struct {
	ran, passed, skipped, broken []string
	failed                       bool // the program as a whole
	output                       string
}

var resultLine = regexp.MustCompile(`(?m)^\s*(=== RUN|--- (?:PASS|SKIP|FAIL):) +(\S+)`)

// test runs the mutant's test in the program that build has made.
func (w *worker) test(ctx context.Context, m *mutant) (*report, error) {
	cmd := exec.CommandContext(ctx, w.bin, "-test.v", "-test.paniconexit0", "-test.count=1",
		"-test.timeout="+w.timeout.String(), "-test.run="+m.test)
	cmd.Dir = filepath.Join(w.dir, m.module, m.pkg)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if w.log != nil {
		fmt.Fprintf(w.log, "\n# %s: %s\n%s", m.file, m.target(), out)
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("run the test: %w", err)
	}
	r := &report{failed: err != nil, output: string(out)}
	for _, match := range resultLine.FindAllStringSubmatch(r.output, -1) {
		list := map[string]*[]string{"=== RUN": &r.ran, "--- PASS:": &r.passed, "--- SKIP:": &r.skipped, "--- FAIL:": &r.broken}[match[1]]
		*list = append(*list, match[2])
	}
	return r, nil
}

// wellDone returns an error unless every alternative of the expression has found a test that
// passed.
func (r *report) wellDone(expression string) error {
	p, err := parsePattern(expression)
	if err != nil {
		return err
	}
	if r.failed {
		return fmt.Errorf("fails:\n%s", r.tail())
	}
	passed := make([]bool, len(p))
	for _, test := range r.passed {
		if i := p.match(test); i >= 0 {
			passed[i] = true
		}
	}
	for i, ok := range passed {
		if ok {
			continue
		}
		for _, test := range r.skipped {
			if p[i:i+1].match(test) >= 0 || strings.HasPrefix(expression, test+"/") {
				return fmt.Errorf("%s is skipped:\n%s", test, r.tail())
			}
		}
		return fmt.Errorf("%q names no test", splitOutside(expression, '|')[i])
	}
	return nil
}

// failure names the test that failed. A program that failed without running the named test
// is an error: it says nothing about the defence.
func (r *report) failure(expression string) (string, error) {
	p, err := parsePattern(expression)
	if err != nil {
		return "", err
	}
	for _, test := range r.broken {
		if p.match(test) >= 0 {
			return test, nil
		}
	}
	// A panic, a fatal error of the runtime and the time limit leave no line of the result.
	for _, test := range r.ran {
		if p.match(test) >= 0 {
			for line := range strings.Lines(r.output) {
				if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
					return test + " (" + strings.TrimSpace(line) + ")", nil
				}
			}
		}
	}
	return "", fmt.Errorf("the tests failed, but not %s:\n%s", expression, r.tail())
}

// tail returns the end of the output, for error messages.
func (r *report) tail() string {
	const most = 2000
	text := strings.TrimSpace(r.output)
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return text
}
