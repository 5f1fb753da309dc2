module lexigram.dev/tenancy/tenantgorm

go 1.26.0

require (
	gorm.io/gorm v1.31.2
	lexigram.dev/tenancy v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace lexigram.dev/tenancy => ..
