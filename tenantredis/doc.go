// Package tenantredis answers the question "how do the nodes hear of a suspension at once when there is
// a Redis?": its [Bus] is for tenancy.Config. It keeps nothing in Redis and caches nothing there; the
// truth stays in the catalogue.
package tenantredis
