package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

func TestWriteErrorTurnsErrorsIntoStatuses(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	const secret = "10.9.8.7"
	wrap := func(err error) error { return fmt.Errorf("dial %s: %w", secret, err) }
	w := newWorld(t, func(c *tenancy.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	respond := func(err error) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { tenanthttp.WriteError(rw, r, err) })
	}
	invalid := &tenancy.InvalidError{Field: "slug", Value: "a b", Remedy: "use a-z"}
	for name, c := range map[string]struct {
		err    error
		want   answer // with a verified tenant
		others answer // without, if it differs
		detail string
	}{
		"not found":        {err: tenancy.ErrNotFound, want: refused(404, tenancy.CodeNotFound)},
		"slug taken":       {err: &tenancy.SlugConflictError{Name: "acme"}, want: refused(409, tenancy.CodeSlugConflict), detail: `tenant name "acme" is taken: choose another`},
		"lost race":        {err: tenancy.ErrConflict, want: refused(409, tenancy.CodeTenant)},
		"transition":       {err: &tenancy.TransitionError{TenantID: "t", From: "active", To: "purged"}, want: refused(409, tenancy.CodeTenant)},
		"invalid":          {err: invalid, want: refused(422, tenancy.CodeTenant), detail: invalid.Error()},
		"several invalid":  {err: errors.Join(errors.New(secret), invalid), want: refused(422, tenancy.CodeTenant), detail: invalid.Error()},
		"no reason":        {err: tenancy.ErrReasonRequired, want: refused(422, tenancy.CodeTenant)},
		"setting":          {err: &tenancy.ConfigError{Key: "max_users", Err: errors.New(secret)}, want: refused(422, tenancy.CodeConfig), detail: `The setting "max_users" cannot have this value.`},
		"setting's name":   {err: &tenancy.ConfigError{Key: "a b", Err: invalid}, want: refused(422, tenancy.CodeConfig), detail: invalid.Error()},
		"stored setting":   {err: &tenancy.ConfigError{Key: "k", Source: "/etc/" + secret, Err: errors.New("x")}, want: refused(500, tenancy.CodeConfig)},
		"unavailable":      {err: tenancy.ErrUnavailable, want: refused(503, tenancy.CodeResolution)},
		"deadline":         {err: context.DeadlineExceeded, want: refused(503, tenancy.CodeResolution)},
		"body too large":   {err: &http.MaxBytesError{Limit: 64}, want: refused(413, ""), detail: "The body may have at most 64 bytes."},
		"suspended":        {err: tenancy.ErrSuspended, want: refused(403, tenancy.CodeSuspended), others: outsider},
		"inactive":         {err: tenancy.ErrInactive, want: refused(403, tenancy.CodeInactive), others: outsider},
		"provisioning":     {err: tenancy.ErrProvisioning, want: refused(403, tenancy.CodeProvisioning), others: outsider},
		"not a member":     {err: tenancy.ErrNotMember, want: outsider},
		"unverifiable":     {err: tenancy.ErrUnverifiable, want: outsider},
		"pinned":           {err: tenancy.ErrIssuerPinned, want: outsider},
		"disabled":         {err: tenancy.ErrDisabled, want: outsider},
		"ambiguous":        {err: tenancy.ErrAmbiguous, want: noTenant},
		"conflicting":      {err: tenancy.ErrConflictingSources, want: noTenant},
		"unauthenticated":  {err: tenancy.ErrUnauthenticated, want: nobody},
		"no tenant":        {err: tenancy.ErrNoTenant, want: refused(500, tenancy.CodeResolution), others: nobody},
		"unverified":       {err: tenancy.ErrUnverified, want: refused(500, tenancy.CodeResolution), others: nobody},
		"another tenant's": {err: tenancy.ErrTenantMismatch, want: refused(500, tenancy.CodeTenant)},
		"provisioner":      {err: &tenancy.ProvisionError{TenantID: "t", Err: invalid}, want: refused(500, tenancy.CodeProvisioning)},
		"migration":        {err: tenancy.ErrMigration, want: refused(500, tenancy.CodeMigration)},
		"anything else":    {err: io.ErrUnexpectedEOF, want: refused(500, tenancy.CodeTenant)},
		"no error at all":  {err: nil, want: refused(500, tenancy.CodeTenant)},
	} {
		t.Run(name, func(t *testing.T) {
			log.Reset()
			err := c.err
			if err != nil {
				err = wrap(c.err)
			}
			h := w.wrap(respond(err))
			rec := ask{token: "alice:acme"}.of(h)
			c.want.check(t, rec)
			if p := problemIn(t, rec); c.detail != "" && p.Detail != c.detail {
				t.Errorf("detail %q, want %q", p.Detail, c.detail)
			}
			if logged := strings.Contains(log.String(), "level=ERROR"); logged != (c.want.status == 500) {
				t.Errorf("logged %t: %s", logged, &log)
			}
			if retry := rec.Header().Get("Retry-After"); (retry != "") != (c.want.status == 503) {
				t.Errorf("Retry-After %q", retry)
			}
			others := ask{}.of(h)
			if c.others.status == 0 {
				c.others = c.want
			}
			c.others.check(t, others)
			if strings.Contains(rec.Body.String()+others.Body.String(), secret) {
				t.Errorf("internal text is shown: %s %s", rec.Body, others.Body)
			}
		})
	}
}

func TestWriteErrorAnswersAForgottenGuardAsTheGuardWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unguarded := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, err := query(r.Context())
		tenanthttp.WriteError(rw, r, err)
	})
	for name, a := range map[string]ask{
		"nobody": {}, "a user": {token: "alice"}, "an outsider": {token: "mallory", host: "acme.app.com"},
		"suspended": {token: "dave", host: "initech.app.com"}, "bad credentials": {token: "bad", host: "acme.app.com"},
	} {
		want := a.of(w.guarded())
		for _, h := range []http.Handler{w.wrap(unguarded), w.wrap(tenanthttp.Public(unguarded))} {
			got := a.of(h)
			if got.Code != want.Code || got.Body.String() != want.Body.String() || fmt.Sprint(got.Header()) != fmt.Sprint(want.Header()) {
				t.Errorf("%s: %d %s, want %d %s", name, got.Code, got.Body, want.Code, want.Body)
			}
		}
	}
}

func TestWriteErrorLogsWhereTheApplicationSaid(t *testing.T) { // changes slog.Default
	var own strings.Builder
	w := newWorld(t, func(c *tenancy.Config) { c.Logger = slog.New(slog.NewTextHandler(&own, nil)) })
	fails := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		tenanthttp.WriteError(rw, r, errors.New("boom"))
	})
	for name, c := range map[string]struct {
		h   http.Handler
		a   ask
		own bool
	}{
		"bound":              {w.wrap(tenanthttp.Guard(fails)), ask{token: "alice:acme"}, true},
		"unbound":            {w.wrap(fails), ask{}, true},
		"public":             {w.wrap(tenanthttp.Public(fails)), ask{host: "acme.app.com"}, true},
		"without middleware": {fails, ask{}, false},
	} {
		own.Reset()
		standard := captureLog(t)
		if rec := c.a.of(c.h); rec.Code != 500 {
			t.Errorf("%s: status %d", name, rec.Code)
		}
		const logged = "error=boom"
		if got := strings.Contains(own.String(), logged); got != c.own {
			t.Errorf("%s: in the configured log %t: %s", name, got, &own)
		}
		if got := strings.Contains(standard.String(), logged); got == c.own {
			t.Errorf("%s: in slog.Default %t: %s", name, got, standard)
		}
	}
}

func TestWriteErrorTellsTheSystemTheState(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	ctx := tenancy.AsSystem(t.Context(), "admin")
	tenanthttp.WriteError(rec, ask{}.request().WithContext(ctx), tenancy.ErrSuspended)
	refused(403, tenancy.CodeSuspended).check(t, rec)
}

func TestWriteErrorAfterTheClientHasGone(t *testing.T) { // changes slog.Default
	log := captureLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	tenanthttp.WriteError(rec, ask{}.request().WithContext(ctx), fmt.Errorf("query: %w", context.Canceled))
	if rec.Code != 503 || log.Len() > 0 {
		t.Errorf("status %d, log %s", rec.Code, log)
	}
}

func TestProblemOfTheApplication(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	tenanthttp.Problem{Status: http.StatusTeapot, Detail: `<b>"short & stout"`}.Write(rec, ask{}.request())
	refused(http.StatusTeapot, "").check(t, rec)
	p := problemIn(t, rec)
	if p.Type != "about:blank" || p.Title != "I'm a teapot" || p.Detail != `<b>"short & stout"` {
		t.Errorf("%+v", p)
	}
	rec = httptest.NewRecorder()
	tenanthttp.Problem{}.Write(rec, ask{method: http.MethodHead}.request())
	if rec.Code != 500 || rec.Body.Len() > 0 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestRequestThatWasEndedIsAnsweredAsTheNextOneWillBe(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, w *world) error{
		"suspended": func(t *testing.T, w *world) error {
			acme, err := w.store.Lookup(t.Context(), tenancy.BySlug("acme"))
			if err == nil {
				acme.Status = tenancy.StatusSuspended
				_, err = w.store.Update(t.Context(), acme)
			}
			return err
		},
		"no member any more": func(t *testing.T, w *world) error {
			return w.store.RemoveMember(t.Context(), "alice", "t-acme")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			h := w.wrap(tenanthttp.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if err := end(t, w); err != nil {
					t.Error(err)
				}
				w.tn.Validator().Invalidate("t-acme")
				select { // a statement that takes its time
				case <-r.Context().Done():
					tenanthttp.WriteError(rw, r, fmt.Errorf("query: %w", r.Context().Err()))
				case <-time.After(20 * time.Second):
					t.Error("the request goes on")
				}
			})))
			a := ask{token: "alice", host: "acme.app.com"}
			got := a.of(h)
			want := a.of(w.guarded())
			if want.Code != http.StatusForbidden || got.Code != want.Code || got.Body.String() != want.Body.String() {
				t.Errorf("%d %s, want %d %s", got.Code, got.Body, want.Code, want.Body)
			}
		})
	}
}
