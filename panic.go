package tenancy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// guarded calls fn, which is the application's own. A panic of it becomes its error, and where it
// was goes to the log with attrs: it may not end a process, and then the next one that takes the same
// work over.
func guarded(ctx context.Context, log *slog.Logger, who string, fn func() error, attrs ...any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "tenancy: "+who+" panicked", append(attrs, "panic", p, "stack", string(debug.Stack()))...)
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}
