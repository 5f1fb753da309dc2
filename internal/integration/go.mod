module lexigram.dev/tenancy/internal/integration

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/go-chi/chi/v5 v5.5.0
	github.com/jackc/pgx/v5 v5.12.0
)

require (
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	go.uber.org/dig v1.19.0 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.uber.org/zap v1.26.0 // indirect
	go.yaml.in/yaml/v4 v4.0.0 // indirect
	golang.org/x/net v0.62.0 // indirect
)

require (
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	go.uber.org/fx v1.24.0
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	lexigram.dev/tenancy v0.0.0
	lexigram.dev/tenancy/tenantconfig v0.0.0
	lexigram.dev/tenancy/tenantfx v0.0.0
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
	modernc.org/sqlite v1.61.1
	pgregory.net/rapid v1.3.0 // indirect
)

replace (
	lexigram.dev/tenancy => ../..
	lexigram.dev/tenancy/tenantgoose => ../../tenantgoose
	lexigram.dev/tenancy/tenantpgx => ../../tenantpgx
)

replace lexigram.dev/tenancy/tenantfx => ../../tenantfx

replace lexigram.dev/tenancy/tenantconfig => ../../tenantconfig
