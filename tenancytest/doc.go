// Package tenancytest answers how to test code that belongs to a tenant, without a server and
// without a container: [New] is a whole tenancy over a catalogue in memory, [Context] is a
// context inside a tenant.
//
//	func TestListOrders(t *testing.T) {
//		ctx := tenancytest.Context(t, "acme")
//		orders, err := store.ListOrders(ctx)
//		…
//	}
//
// It binds contexts without asking for a membership. To test that strangers are kept out,
// send requests through tenanthttp's middleware over [New] and [AddMember].
package tenancytest
