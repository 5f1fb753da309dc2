package tenantriver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"lexigram.dev/tenancy"
)

const (
	// batch is how many tenants with something to do are read at once.
	batch = 1000
	// longest is how long a job may take. River would end a step after a minute, and with no end at all
	// it keeps the job of a node that died for ever.
	longest = 24 * time.Hour
)

// unfinished are the states of a job in which there must be no second one.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning,
	rivertype.JobStateRetryable, rivertype.JobStateScheduled,
}

// Config says where the jobs wait and how often it is asked for them.
type Config struct {
	// Queue is the River queue of the jobs. Its MaxWorkers is how many tenants a node works on at
	// once. Defaults to river.QueueDefault.
	Queue string
	// Interval is how often the catalogue is asked what is due, a second or more. Defaults to 1 s.
	Interval time.Duration
}

// Runner brings the work on tenants into River. TTx is the transaction of River's driver: pgx.Tx for
// riverpgxv5. It is safe for concurrent use.
type Runner[TTx any] struct {
	tn  *tenancy.Tenancy
	cfg Config
}

// New returns a runner. All clients of a River schema do the work of one catalogue. It fails when
// tn would do the same work beside River, and when its Store cannot tell what is due.
func New[TTx any](tn *tenancy.Tenancy, cfg Config) (*Runner[TTx], error) {
	if tn == nil {
		return nil, errors.New("tenantriver: no Tenancy: give what tenancy.New returned")
	}
	var problems []error
	if !tn.Config().Lifecycle.NoRunner {
		problems = append(problems, errors.New("tenantriver: a started Tenancy would do the work beside River: set Lifecycle.NoRunner (lifecycle.runner: false)"))
	}
	if _, ok := tn.Config().Store.(tenancy.DueStore); !ok {
		problems = append(problems, fmt.Errorf("tenantriver: %w: the Store has no method DueTenants", errors.ErrUnsupported))
	}
	cfg.Queue, cfg.Interval = cmp.Or(cfg.Queue, river.QueueDefault), cmp.Or(cfg.Interval, time.Second)
	if cfg.Interval < time.Second {
		problems = append(problems, fmt.Errorf("tenantriver: an interval of %s is too short: use a second or more", cfg.Interval))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &Runner[TTx]{tn: tn, cfg: cfg}, nil
}

// Register adds the workers. It fails when they are there already.
func (r *Runner[TTx]) Register(workers *river.Workers) error {
	return errors.Join(
		river.AddWorkerSafely(workers, &dueWorker[TTx]{runner: r}),
		river.AddWorkerSafely(workers, &tenantWorker{tn: r.tn}))
}

// PeriodicJob returns the job that asks what is due. It belongs into the configuration of every client
// that may lead: River lets the leader's periodic jobs run, and nobody else's.
func (r *Runner[TTx]) PeriodicJob() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(r.cfg.Interval),
		func() (river.JobArgs, *river.InsertOpts) { return dueArgs{}, r.opts() },
		&river.PeriodicJobOpts{ID: dueArgs{}.Kind(), RunOnStart: true})
}

// Enqueue has what is due for a tenant done at once, as after a Create that is Async. Without it, and
// when it fails, the periodic job finds the tenant.
func (r *Runner[TTx]) Enqueue(ctx context.Context, client *river.Client[TTx], id string) error {
	if _, err := client.Insert(ctx, tenantArgs{TenantID: id}, r.opts()); err != nil {
		return fmt.Errorf("enqueue the work on tenant %q: %w", id, err)
	}
	return nil
}

// opts are those of every job. There is one at a time, but a node that dies keeps its job: that one must
// not be in the way for longer than the lease of its work.
func (r *Runner[TTx]) opts() *river.InsertOpts {
	return &river.InsertOpts{
		Queue:       r.cfg.Queue,
		MaxAttempts: 1,
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByPeriod: r.tn.Config().Lifecycle.Lease, ByState: unfinished},
	}
}

// dueArgs asks what is due.
type dueArgs struct{}

func (dueArgs) Kind() string { return "tenancy_due" }

type dueWorker[TTx any] struct {
	river.WorkerDefaults[dueArgs]
	runner *Runner[TTx]
}

// Work inserts a job for each tenant with something to do.
func (w *dueWorker[TTx]) Work(ctx context.Context, _ *river.Job[dueArgs]) error {
	client, err := river.ClientFromContextSafely[TTx](ctx)
	if err != nil {
		return fmt.Errorf("tenantriver: the client's driver has other transactions than New was told: New[pgx.Tx] is for riverpgxv5: %w", err)
	}
	due, err := w.runner.tn.Due(ctx, batch)
	if err != nil || len(due) == 0 {
		return err
	}
	jobs := make([]river.InsertManyParams, len(due))
	for i, t := range due {
		jobs[i] = river.InsertManyParams{Args: tenantArgs{TenantID: t.ID}, InsertOpts: w.runner.opts()}
	}
	if _, err := client.InsertMany(ctx, jobs); err != nil {
		return fmt.Errorf("enqueue the work on %d tenants: %w", len(due), err)
	}
	return nil
}

// tenantArgs is what is due for one tenant.
type tenantArgs struct {
	TenantID string `json:"tenant_id"`
}

func (tenantArgs) Kind() string { return "tenancy_tenant" }

type tenantWorker struct {
	river.WorkerDefaults[tenantArgs]
	tn *tenancy.Tenancy
}

func (*tenantWorker) Timeout(*river.Job[tenantArgs]) time.Duration { return longest }

// Work does what is due. Its error is that of the step; the journal has it too.
func (w *tenantWorker) Work(ctx context.Context, job *river.Job[tenantArgs]) error {
	return w.tn.RunTenant(ctx, job.Args.TenantID)
}
