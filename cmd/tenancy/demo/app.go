// Package demo is a small notes application for several customers, put together with
// lexigram.dev/tenancy: the program behind "tenancy demo". The application itself is package
// notes; this one gives it a database that knows tenants, asks who sends a request, and
// seeds three tenants to try it with.
package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/cmd/tenancy/demo/notes"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantjwt"
)

// stopTimeout bounds the end of what runs in the background.
const stopTimeout = 10 * time.Second

// App is a running demo. Make one with [New].
type App struct {
	tn      *tenancy.Tenancy
	db      *isolation.DB
	live    *notes.Live
	secret  string
	place   string // where the data is, for people
	handler http.Handler
	log     *slog.Logger
	close   func() error
}

// backend is where an App keeps its data.
type backend struct {
	store  *sqlstore.Store
	server isolation.Server
	place  string
	pool   isolation.PoolConfig
	close  closers
}

// closers are called in reverse order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) run() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	*c = nil
	return errors.Join(errs...)
}

// New opens or makes the data, seeds what is missing and starts what runs in the background.
// ctx bounds the start only.
func New(ctx context.Context, opts Options) (_ *App, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	engine, err := opts.engine()
	if err != nil {
		return nil, err
	}
	cfg, err := opts.config(engine)
	if err != nil {
		return nil, err
	}
	a := &App{live: notes.NewLive(), secret: cmp.Or(opts.JWTSecret, rand.Text()+rand.Text()), log: opts.Logger}
	verifier, err := newVerifier(a.secret)
	if err != nil {
		return nil, err
	}

	b, err := engine.open(ctx, opts, cfg.Lifecycle.IsolationStrategy)
	if err != nil {
		return nil, err
	}
	a.close = sync.OnceValue(b.close.run)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if err := a.build(ctx, cfg, b, true); err != nil {
		return nil, err
	}
	if err := a.run(ctx, b, engine, verifier); err != nil {
		return nil, err
	}
	return a, nil
}

// build puts the parts together. With prepare it makes the tables, their walls and the demo's tenants
// first, for which the migrator's login is needed.
func (a *App) build(ctx context.Context, cfg tenancy.Config, b *backend, prepare bool) error {
	a.place = fmt.Sprintf("isolation %s: %s", cfg.Lifecycle.IsolationStrategy, b.place)
	b.pool.MaxWait = poolTimeout
	placement := isolation.Config{
		Servers:  map[string]isolation.Server{"main": b.server},
		Strategy: cfg.Lifecycle.IsolationStrategy,
		Pool:     b.pool,
		Logger:   a.log,
	}
	migrations, err := migrator()
	if err != nil {
		return err
	}
	provisioner, err := isolation.NewProvisioner(placement, migrations)
	if err != nil {
		return err
	}
	if prepare {
		if _, err := provisioner.Setup(ctx); err != nil {
			return err
		}
	}
	if a.db, err = isolation.Open(placement); err != nil {
		return err
	}
	b.close.add(a.db.Close)
	if err := a.db.Check(ctx); err != nil {
		return err
	}
	cfg.Store, cfg.Provisioner = b.store, provisioner
	if a.tn, err = tenancy.New(cfg); err != nil || !prepare {
		return err
	}
	return seed(ctx, a.tn, b.store)
}

// run starts what runs in the background.
func (a *App) run(ctx context.Context, b *backend, e *engine, verifier *tenantjwt.Verifier) error {
	if err := a.tn.Start(ctx); err != nil {
		return err
	}
	b.close.add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return errors.Join(a.live.Close(ctx), a.tn.Stop(ctx))
	})
	a.handler = a.routes(verifier, notes.New(a.db.DB, e.placeholders, a.live, a.fail))
	return nil
}

// Handler returns the application with everything around it.
func (a *App) Handler() http.Handler { return a.handler }

// Tenancy returns the library as the demo has composed it.
func (a *App) Tenancy() *tenancy.Tenancy { return a.tn }

// Token returns a token for the user. With a tenant, by id or slug, the token names it.
func (a *App) Token(user, tenant string) (string, error) {
	return Token(a.secret, user, tenant, time.Now().Add(tokenTTL))
}

// Close ends what runs in the background, sends the listeners of GET /live away and closes
// the databases. A temporary folder is removed. It may be repeated.
func (a *App) Close() error { return a.close() }
