package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/cmd/tenancy/demo/notes"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenanthttp"
	"lexigram.dev/tenancy/tenantjwt"
)

// The bounds of the server. A WebSocket leaves the read and write timeouts behind with its
// handshake.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	drainTimeout      = 10 * time.Second
	poolTimeout       = 10 * time.Second // for a connection; an answer must be possible after it
)

// routes puts the application together: first who asks and for which tenant, then the guard
// of each route, then the handler.
func (a *App) routes(verifier *tenantjwt.Verifier, application *notes.App) http.Handler {
	mux := http.NewServeMux()
	guarded := func(pattern string, h http.Handler) { mux.Handle(pattern, tenanthttp.Guard(h)) }
	for _, prefix := range []string{"", a.pathPrefix("{tenant}")} {
		application.Routes(prefix, guarded)
		guarded("GET "+prefix+"/whoami", a.handle(a.whoami))
		guarded("GET "+prefix+"/settings", a.handle(a.settings))
		guarded("PUT "+prefix+"/settings/{key}", a.handle(a.setSetting))
		mux.Handle("GET "+prefix+"/login", tenanthttp.Public(a.handle(a.login)))
	}
	mux.Handle("GET /healthz", a.handle(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
		return nil
	}))
	return a.recovered(tenanthttp.Middleware(a.tn, tenanthttp.Config{Identity: verifier.Identity})(problems(mux)))
}

// pathPrefix returns what a request for the tenant of that name begins with, by the pattern
// of the path resolver: /tenants/acme.
func (a *App) pathPrefix(name string) string {
	segments := strings.Split(strings.Trim(a.tn.Config().Resolution.PathPattern, "/"), "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = name
		}
	}
	return "/" + strings.Join(segments, "/")
}

func (a *App) handle(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// fail answers with a problem document.
func (a *App) fail(w http.ResponseWriter, r *http.Request, err error) {
	if failure, ok := errors.AsType[*notes.Failure](err); ok {
		tenanthttp.Problem{Status: failure.Status, Detail: failure.Detail}.Write(w, r)
		return
	}
	if errors.Is(err, isolation.ErrPoolExhausted) { // too much at once, not a fault
		w.Header().Set("Retry-After", "1")
		tenanthttp.Problem{Status: http.StatusServiceUnavailable}.Write(w, r)
		return
	}
	tenanthttp.WriteError(w, r, err)
}

func (a *App) whoami(w http.ResponseWriter, r *http.Request) error {
	b, err := tenancy.Require(r.Context())
	if err != nil {
		return err
	}
	type tenant struct {
		ID   string `json:"id"`
		Slug string `json:"slug"`
		Name string `json:"name"`
	}
	return writeJSON(w, struct {
		Tenant   tenant `json:"tenant"`
		Resolver string `json:"resolver"`
		Verified bool   `json:"verified"`
		User     string `json:"user"`
	}{tenant{b.Tenant.ID, b.Tenant.Slug, b.Tenant.Name}, b.Resolver, b.Verified, b.UserID})
}

func (a *App) settings(w http.ResponseWriter, r *http.Request) error {
	b, err := tenancy.Require(r.Context())
	if err != nil {
		return err
	}
	all, err := a.tn.Overrides().All(r.Context(), b.Tenant.ID)
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// setSetting gives the tenant a value of its own; null takes it away.
func (a *App) setSetting(w http.ResponseWriter, r *http.Request) error {
	b, err := tenancy.Require(r.Context())
	if err != nil {
		return err
	}
	var body struct {
		Value json.RawMessage `json:"value"`
	}
	if err := notes.ReadJSON(w, r, &body); err != nil {
		return err
	}
	key, overrides := r.PathValue("key"), a.tn.Overrides()
	switch string(body.Value) {
	case "":
		return &notes.Failure{Status: http.StatusBadRequest, Detail: `the body is {"value": …}`}
	case "null":
		err = overrides.Unset(r.Context(), b.Tenant.ID, key)
	default:
		err = overrides.Set(r.Context(), b.Tenant.ID, key, body.Value)
	}
	if err != nil {
		return err
	}
	value, _, err := overrides.Get(r.Context(), b.Tenant.ID, key)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"key": key, "value": value})
}

var loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<title>Log in</title>
<h1>{{if .}}Welcome to {{.}}{{else}}Welcome{{end}}</h1>
<p>This is where you would log in.</p>
`))

// login is public: it greets by tenant although nobody is known yet. An unknown or suspended
// tenant gets the page of no tenant.
func (a *App) login(w http.ResponseWriter, r *http.Request) error {
	name := ""
	if b, ok := tenancy.FromContext(r.Context()); ok {
		name = b.Tenant.Name
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	return loginPage.Execute(w, name)
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the client may be gone
	return nil
}

// problems gives the answers of the mux itself, 404 and 405, the form of all others.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		answer := &unwritten{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(answer, r)
		if answer.status < http.StatusBadRequest { // a redirect to the clean path
			h.ServeHTTP(w, r)
			return
		}
		if allow := answer.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		tenanthttp.Problem{Status: answer.status}.Write(w, r)
	})
}

// unwritten remembers an answer's status and headers and sends nothing.
type unwritten struct {
	header http.Header
	status int
}

func (u *unwritten) Header() http.Header         { return u.header }
func (u *unwritten) WriteHeader(status int)      { u.status = status }
func (u *unwritten) Write(p []byte) (int, error) { return len(p), nil }

// recovered logs a panic with its stack and answers 500 without it. When the answer has
// begun already, the connection is cut, so that nobody takes the half for the whole.
func (a *App) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watched := &watchedWriter{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			a.log.ErrorContext(r.Context(), "demo: handler panicked", "method", r.Method, "path", r.URL.Path,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if watched.begun {
				panic(http.ErrAbortHandler)
			}
			tenanthttp.Problem{Status: http.StatusInternalServerError}.Write(w, r)
		}()
		next.ServeHTTP(watched, r)
	})
}

// watchedWriter knows whether the answer has begun.
type watchedWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *watchedWriter) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] and the WebSocket handshake reach the connection.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Serve answers requests on ln until ctx ends. Then it takes no new ones, finishes those
// under way, closes the WebSockets and returns nil. It closes ln.
func (a *App) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- a.live.Close(drain) }()
	err := srv.Shutdown(drain)
	if err = errors.Join(err, <-gone); err != nil {
		return errors.Join(fmt.Errorf("stop serving: %w", err), srv.Close())
	}
	return nil
}
