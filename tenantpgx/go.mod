module lexigram.dev/tenancy/tenantpgx

go 1.26.0

require lexigram.dev/tenancy v0.0.0

replace lexigram.dev/tenancy => ..
