package memstore_test

import (
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Config{New: func(*testing.T) tenancy.Store { return memstore.New() }})
}
