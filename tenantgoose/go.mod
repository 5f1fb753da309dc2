module lexigram.dev/tenancy/tenantgoose

go 1.26.0

require (
	github.com/pressly/goose/v3 v3.29.0
	lexigram.dev/tenancy v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace lexigram.dev/tenancy => ..
