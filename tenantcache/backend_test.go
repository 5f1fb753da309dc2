package tenantcache_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"lexigram.dev/tenancy/tenantcache"
)

// plain is a backend with the three methods only; it remembers every key it was called with.
type plain struct {
	mu     sync.Mutex
	values map[string][]byte
	keys   []string
}

func newPlain() *plain { return &plain{values: map[string][]byte{}} }

func (p *plain) Get(_ context.Context, key string) ([]byte, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key)
	value, ok := p.values[key]
	return value, ok, nil
}

func (p *plain) Set(_ context.Context, key string, value []byte, _ time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key)
	p.values[key] = value
	return nil
}

func (p *plain) Delete(_ context.Context, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key)
	delete(p.values, key)
	return nil
}

// full has the optional methods too.
type full struct{ plain }

func newFull() *full { return &full{plain: plain{values: map[string][]byte{}}} }

var (
	_ tenantcache.MultiGetter   = (*full)(nil)
	_ tenantcache.Incrementer   = (*full)(nil)
	_ tenantcache.PrefixDeleter = (*full)(nil)
)

func (f *full) GetMulti(_ context.Context, keys []string) (map[string][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, keys...)
	found := map[string][]byte{}
	for _, key := range keys {
		if value, ok := f.values[key]; ok {
			found[key] = value
		}
	}
	return found, nil
}

func (f *full) Increment(_ context.Context, key string, delta int64, _ time.Duration) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, key)
	n, _ := strconv.ParseInt(string(f.values[key]), 10, 64)
	n += delta
	f.values[key] = strconv.AppendInt(nil, n, 10)
	return n, nil
}

func (f *full) DeletePrefix(_ context.Context, prefix string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, prefix)
	for key := range f.values {
		if strings.HasPrefix(key, prefix) {
			delete(f.values, key)
		}
	}
	return nil
}

// local is the first level of a cache of two: in this process.
type local struct{ cache *otter.Cache[string, []byte] }

func newLocal() *local {
	return &local{otter.Must(&otter.Options[string, []byte]{MaximumSize: 1000})}
}

func (l *local) Get(_ context.Context, key string) ([]byte, bool, error) {
	value, ok := l.cache.GetIfPresent(key)
	return value, ok, nil
}

func (l *local) Set(_ context.Context, key string, value []byte, _ time.Duration) error {
	l.cache.Set(key, value)
	return nil
}

func (l *local) Delete(_ context.Context, key string) error {
	l.cache.Invalidate(key)
	return nil
}

// levels reads the first level, then the second, and writes both.
type levels struct{ first, second tenantcache.Backend }

func (l levels) Get(ctx context.Context, key string) ([]byte, bool, error) {
	value, found, err := l.first.Get(ctx, key)
	if found || err != nil {
		return value, found, err
	}
	if value, found, err = l.second.Get(ctx, key); found && err == nil {
		err = l.first.Set(ctx, key, value, 0)
	}
	return value, found, err
}

func (l levels) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := l.second.Set(ctx, key, value, ttl); err != nil {
		return err
	}
	return l.first.Set(ctx, key, value, ttl)
}

func (l levels) Delete(ctx context.Context, key string) error {
	if err := l.second.Delete(ctx, key); err != nil {
		return err
	}
	return l.first.Delete(ctx, key)
}
