module lexigram.dev/tenancy

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/maypok86/otter/v2 v2.4.0
	golang.org/x/net v0.62.0
)

require golang.org/x/text v0.43.0 // indirect
