package isolationtest

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is something that goes wrong in a hunt on purpose.
type Fault string

// The faults of a hunt.
const (
	CancelledContext Fault = "cancelled contexts"
	PassedDeadline   Fault = "passed deadlines"
	FailedStatement  Fault = "failed statements"
	RolledBack       Fault = "transactions rolled back"
	FailedCallback   Fault = "failed callbacks"
	PanickedCallback Fault = "panics"
	RowsLeftOpen     Fault = "rows left open"
	NoTenant         Fault = "calls without a tenant"
	OtherTenant      Fault = "calls of another tenant inside"
	SessionSetting   Fault = "settings set for the session"
	KilledConnection Fault = "killed connections"
	RestartedServer  Fault = "server restarts"
)

// Faults returns the faults that a hunt can do to the handle.
func Faults(h Handle) []Fault {
	all := []Fault{
		CancelledContext, PassedDeadline, FailedStatement, RolledBack, FailedCallback, PanickedCallback,
		RowsLeftOpen, NoTenant, OtherTenant,
	}
	if h.SetSession != nil {
		all = append(all, SessionSetting)
	}
	if h.Kill != nil {
		all = append(all, KilledConnection)
	}
	if h.Restart != nil {
		all = append(all, RestartedServer)
	}
	return all
}

func (h *hunt) may(f Fault) bool { return slices.Contains(h.plan.Faults, f) }

// disturbed reports whether any statement may fail at any time.
func (h *hunt) disturbed() bool { return h.may(KilledConnection) || h.may(RestartedServer) }

// rarer is how many times as rare a disturbance becomes once there were the LeastFaults of it: while
// somebody has to connect again, little else is tried.
const rarer = 10

// rare reports whether there were enough of a fault.
func (h *hunt) rare(f Fault) bool {
	return h.plan.LeastFaults > 0 && h.tally.times(f) >= h.plan.LeastFaults
}

// disturb kills connections and restarts the server until the context ends.
func (h *hunt) disturb(ctx context.Context, random *rand.Rand) {
	for wait(ctx, time.Duration(random.Int64N(int64(2*h.plan.KillEvery)))) {
		pause := h.plan.RestartEvery
		if h.rare(RestartedServer) {
			pause *= rarer
		}
		if h.may(RestartedServer) && time.Since(h.restarted) > pause {
			h.restarted = time.Now()
			var err error
			unlabelled(h.base, func() { err = h.Restart(context.WithoutCancel(ctx)) }) // not given up half-way
			if err != nil {
				h.tally.failed(err)
			} else {
				h.tally.happened(RestartedServer)
			}
		}
		if !h.may(KilledConnection) || random.IntN(8) == 0 || h.rare(KilledConnection) && random.IntN(rarer) > 0 {
			continue
		}
		h.kill(ctx, 1)
	}
}

// kill kills connections, whatever happens to the context.
func (h *hunt) kill(ctx context.Context, most int) {
	var n int
	var err error
	unlabelled(h.base, func() { n, err = h.Kill(context.WithoutCancel(ctx), most) })
	if err != nil {
		h.tally.failed(err)
	}
	for range n {
		h.tally.happened(KilledConnection)
	}
}

// wait waits; it returns false when the context ended before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
