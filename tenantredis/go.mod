module lexigram.dev/tenancy/tenantredis

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	lexigram.dev/tenancy v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace lexigram.dev/tenancy => ..
