// Package tenanthttp answers the question "whose request is this?" for net/http.
//
// [Middleware] resolves the tenant and binds what it could verify to the request's context;
// it never rejects. [Guard] lets only a verified binding through and answers everything else
// with a problem document (RFC 9457). [Public] marks a route, such as a login page, that may
// greet by tenant before anybody is known. All three are of the form
// func(http.Handler) http.Handler and suit any router that takes it.
//
// The package does not authenticate: [Config].Identity hands over what the application's own
// authentication, or package tenantjwt, has verified. It does not wrap the ResponseWriter, so
// that Flusher, Hijacker and http.ResponseController work as without it, and a WebSocket keeps
// its tenant as long as its handler runs.
package tenanthttp
