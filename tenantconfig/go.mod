module lexigram.dev/tenancy/tenantconfig

go 1.26.0

require lexigram.dev/tenancy v0.0.0

require github.com/google/go-cmp v0.7.0

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	go.yaml.in/yaml/v4 v4.0.0
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace lexigram.dev/tenancy => ..
