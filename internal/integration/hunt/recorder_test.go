package hunt_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// recorder is a test whose failure is not one of the real test's.
type recorder struct {
	testing.TB
	name   string
	only   string // the only subtest to run, or "" for all
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	failed   bool
	skipped  bool
	texts    []string
	failures []string // names of subtests
	cleanups []func()
}

func newRecorder(t testing.TB) *recorder {
	r := &recorder{TB: t, name: t.Name()}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// run runs a test to its end.
func (r *recorder) run(test func(t testing.TB)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.end()
		test(r)
	}()
	<-done
}

func (r *recorder) end() {
	r.cancel()
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		last()
	}
}

// Run runs a subtest.
func (r *recorder) Run(name string, test func(t testing.TB)) bool {
	if r.only != "" && r.only != name {
		return true
	}
	child := newRecorder(r.TB)
	child.name = name
	child.run(test)
	r.mu.Lock()
	defer r.mu.Unlock()
	if child.failed {
		r.failed = true
		r.failures = append(r.failures, name)
		for _, text := range child.texts {
			r.texts = append(r.texts, name+": "+text)
		}
	}
	return !child.failed
}

func (r *recorder) note(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	r.texts = append(r.texts, text)
}

func (r *recorder) Name() string                   { return r.name }
func (r *recorder) Helper()                        {}
func (r *recorder) Context() context.Context       { return r.ctx }
func (r *recorder) Cleanup(fn func())              { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Log(args ...any)                { r.note(false, fmt.Sprint(args...)) }
func (r *recorder) Logf(format string, a ...any)   { r.note(false, fmt.Sprintf(format, a...)) }
func (r *recorder) Error(args ...any)              { r.note(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, a ...any) { r.note(true, fmt.Sprintf(format, a...)) }
func (r *recorder) Fail()                          { r.note(true, "failed") }

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) SkipNow() {
	r.skipped = true
	runtime.Goexit()
}

func (r *recorder) Skip(...any)          { r.SkipNow() }
func (r *recorder) Skipf(string, ...any) { r.SkipNow() }
func (r *recorder) Skipped() bool        { return r.skipped }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) failedIn(name string) bool { return slices.Contains(r.failures, name) }
