// Package http tests tenanthttp with routers and a WebSocket library that are not ours.
package http
