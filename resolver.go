package tenancy

import "context"

// Resolver reads from a request which tenant it names. It only reads: what it answers is a
// claim, and whether it is believed is decided later. Resolvers are called concurrently.
type Resolver interface {
	// Name identifies the resolver in configuration, decisions and logs.
	Name() string
	// Resolve returns the tenant that the request names, or the zero Ref when the request
	// does not name one here. An error, such as [ErrAmbiguous], refuses the request.
	Resolve(ctx context.Context, req *Request) (Ref, error)
}
