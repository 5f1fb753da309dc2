package isolationtest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// Goroutines inherit the labels of whoever starts them, so that a hunt knows its own from those of
// tests beside it.
const labelKey = "isolationtest.hunt"

func labelled(ctx context.Context, id string, fn func(ctx context.Context)) {
	pprof.Do(ctx, pprof.Labels(labelKey, id), fn)
}

// unlabelled runs fn, which is not the handle's, without the labels of ctx. What it starts is not
// the handle's either.
func unlabelled(ctx context.Context, fn func()) {
	pprof.SetGoroutineLabels(context.Background())
	defer pprof.SetGoroutineLabels(ctx)
	fn()
}

// goroutines returns how many goroutines carry the label, and what they do.
func goroutines(id string) (n int, stacks string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return 0, "" // a bytes.Buffer does not fail
	}
	var b strings.Builder
	for _, group := range strings.Split(profile.String(), "\n\n") {
		if !strings.Contains(group, strconv.Quote(labelKey)+":"+strconv.Quote(id)) {
			continue
		}
		_, group, _ = strings.Cut("\n"+group, "\n") // the first group follows a title
		if title, rest, found := strings.Cut(group, "\n"); found && strings.HasPrefix(title, "goroutine profile") {
			group = rest
		}
		count, _, _ := strings.Cut(group, " ")
		many, _ := strconv.Atoi(count)
		n += max(many, 1)
		fmt.Fprintf(&b, "%s\n\n", group)
	}
	return n, b.String()
}

// goroutinesLeft waits until no more goroutines than allowed carry the label, and returns "" or
// the stacks of what is left.
func goroutinesLeft(id string, allowed int) string {
	for deadline := time.Now().Add(settleTime); ; time.Sleep(10 * time.Millisecond) {
		n, stacks := goroutines(id)
		if n <= allowed {
			return ""
		}
		if time.Now().After(deadline) {
			return fmt.Sprintf("%d goroutines are left (%d allowed):\n%s", n, allowed, stacks)
		}
	}
}
