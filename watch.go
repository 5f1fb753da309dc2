package tenancy

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"sync"
	"time"
)

// watchers are told which tenants changed.
type watchers struct {
	mu      sync.Mutex
	tenants map[string]map[chan struct{}]struct{}
}

// add returns a channel that holds something after the tenant changed, however often.
func (w *watchers) add(tenantID string) chan struct{} {
	news := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tenants[tenantID] == nil {
		w.tenants[tenantID] = map[chan struct{}]struct{}{}
	}
	w.tenants[tenantID][news] = struct{}{}
	return news
}

func (w *watchers) remove(tenantID string, news chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tenants[tenantID], news)
	if len(w.tenants[tenantID]) == 0 {
		delete(w.tenants, tenantID)
	}
}

// changed tells who watches a tenant, for "" any tenant. It is called after the caches forgot it.
func (w *watchers) changed(tenantID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tell := func(all map[chan struct{}]struct{}) {
		for news := range all {
			select {
			case news <- struct{}{}:
			default: // it will look anyway
			}
		}
	}
	if tenantID != "" {
		tell(w.tenants[tenantID])
		return
	}
	for _, all := range w.tenants {
		tell(all)
	}
}

// Watch yields the value of key that counts for the tenant, nil when there is none, and again
// whenever it has changed: at once after a change by this process, on other nodes as [Tenancy.Start]
// describes, at the latest after the TTL. Of changes in quick succession only the last one need show.
// An error is yielded as well and the value asked for again a second later. It ends with ctx or the
// loop, runs in the loop's goroutine, and starts none.
func (o *Overrides) Watch(ctx context.Context, tenantID, key string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		for found, err := range o.watch(ctx, tenantID, key) {
			if err == nil && o.layers.isSecret(key, found.Value) {
				found.Value, err = nil, &ConfigError{Key: key, Source: found.source(tenantID), Err: errIsSecret}
			}
			if !yield(bytes.Clone(found.Value), err) {
				return
			}
		}
	}
}

// watch yields what find returns, whenever the value is another one.
func (o *Overrides) watch(ctx context.Context, tenantID, key string) iter.Seq2[LayerValue, error] {
	return func(yield func(LayerValue, error) bool) {
		news := o.watchers.add(tenantID) // before the first look, so that no change is missed
		defer o.watchers.remove(tenantID, news)
		var last json.RawMessage
		for looked := false; ctx.Err() == nil; {
			found, _, err := o.find(ctx, tenantID, key)
			wait := o.tn.cfg.Overrides.CacheTTL
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				wait = retryAfter
				if !yield(LayerValue{}, err) {
					return
				}
			case !looked || !bytes.Equal(found.Value, last):
				looked, last = true, found.Value
				if !yield(found, nil) {
					return
				}
			}
			if wait <= 0 {
				wait = retryAfter
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-news:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}
