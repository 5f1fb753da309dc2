package tenancy

// Request is what the resolvers see of an incoming call, whatever the transport.
type Request struct {
	// Host is the host that the client asked for, with or without a port. A transport puts
	// a forwarded host here only from a trusted proxy.
	Host string
	// Path is the escaped path, as sent.
	Path string
	// Header answers all values of a header; http.Header does. Nil means no headers.
	Header HeaderValues
	// Identity is who asks, as the application's authentication verified it. The zero
	// Identity is an anonymous caller.
	Identity Identity
	// IdentityErr says why credentials that were present are not valid, or nil.
	IdentityErr error
}

// HeaderValues is the one method of http.Header that resolvers need.
type HeaderValues interface {
	Values(key string) []string
}

// Identity is a verified caller. Whoever fills it in has checked signature, issuer, audience
// and expiry.
type Identity struct {
	// UserID is the user, or "" for an anonymous caller.
	UserID string
	// Issuer is who vouches for the user; with several issuers it keeps their users apart.
	Issuer string
	// Claims are the verified claims.
	Claims map[string]any
}

// Anonymous reports whether nobody is authenticated.
func (id Identity) Anonymous() bool { return id.UserID == "" }
