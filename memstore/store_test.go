package memstore_test

import (
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Config{New: func(*testing.T) tenancy.Store { return memstore.New() }})
}

func TestTheChangeFeedIsLostAfterAVeryLongTime(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	store.Now = func() time.Time { return time.Unix(0, 0) }
	ctx := t.Context()
	tenant, err := store.Create(ctx, tenancy.Tenant{ID: "t-1", Slug: "acme", Status: tenancy.StatusActive})
	if err != nil {
		t.Fatal(err)
	}
	if !tenant.CreatedAt.Equal(time.Unix(0, 0)) {
		t.Errorf("CreatedAt is %v; want the clock's time", tenant.CreatedAt)
	}
	for range 25_000 {
		if err := store.SetMember(ctx, "alice", "t-1", tenancy.Member{}); err != nil {
			t.Fatal(err)
		}
	}
	for since, lost := range map[int64]bool{0: true, 1000: true, 15_001: false, 25_001: false, 25_002: true} {
		c, err := store.Changes(ctx, since)
		if err != nil || c.Lost != lost || c.Revision != 25_001 {
			t.Errorf("Changes(%d) is %+v, %v; want Lost %t", since, c, err, lost)
		}
	}
}
