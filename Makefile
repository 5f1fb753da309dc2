# `go test work` and its like cover every module of go.work; `./...` covers the root module only.

TESTFLAGS ?= -timeout 12m
FUZZTIME ?= 60s
SOAK ?= 60s
MINUTES ?= 1
CRASH ?= 300
TENANTS ?= 1000
RACES ?= 10000
SERVERS = TENANCY_REQUIRE_SERVERS=1

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run the demo on http://127.0.0.1:8080 (ARGS="--addr :9000")
	go run ./cmd/tenancy demo $(ARGS)

.PHONY: test
test: test-servers ## run every test on real servers, with the race detector
	$(SERVERS) go test -race $(TESTFLAGS) work

.PHONY: test-short
test-short: ## run the tests that this machine can: no race detector, missing servers are skipped
	go test -short $(TESTFLAGS) work

.PHONY: test-servers
test-servers: ## install what the tests need beside Go: PostgreSQL, PgBouncer, MariaDB, Redis, gcc (apt, sudo)
	scripts/install-servers

.PHONY: lint
lint: ## check format, vet, tidiness and golangci-lint in every module
	scripts/lint

.PHONY: fmt
fmt: ## format every Go file
	"$$(scripts/tool gofumpt)" -l -w .

.PHONY: tidy
tidy: ## tidy every module on its own
	@for dir in $$(go list -m -f '{{.Dir}}'); do echo "tidy $$dir" && (cd "$$dir" && GOWORK=off go mod tidy) || exit 1; done

.PHONY: cover
cover: test-servers ## measure the coverage of all tests together, into .out/cover.html
	@mkdir -p .out
	$(SERVERS) go test $(TESTFLAGS) -coverpkg=lexigram.dev/tenancy/... -coverprofile=.out/cover.txt work
	go tool cover -html=.out/cover.txt -o .out/cover.html
	go tool cover -func=.out/cover.txt | tail -n 1

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (60s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: soak
soak: test-servers ## 64 clients and 3 tenants against the demo for SOAK (60s) on every database
	$(SERVERS) TENANCY_SOAK=$(SOAK) go test -race -count=1 -v -timeout 30m -run '^TestSoak$$' ./internal/integration/demo

.PHONY: leakhunt
leakhunt: test-servers ## search every strategy, engine and access path for leaks, MINUTES (1) each, or up to four times as long until OPERATIONS and FAULTS of each kind are reached, which fails else (RUN=regexp; the full hunt is MINUTES=4 OPERATIONS=100000 FAULTS=100)
	$(SERVERS) TENANCY_LEAKHUNT=$(MINUTES)m TENANCY_LEAKHUNT_OPERATIONS=$(OPERATIONS) TENANCY_LEAKHUNT_FAULTS=$(FAULTS) go test -count=1 -v -timeout 0 -run '^TestHunt$$$(if $(RUN),/($(RUN)))' ./internal/integration/hunt

.PHONY: scale
scale: test-servers ## 10 000 SQLite files, 500 PostgreSQL databases and a flood, measured
	$(SERVERS) TENANCY_SCALE=1 go test -count=1 -v -timeout 30m ./internal/integration/scale

.PHONY: crash
crash: test-servers ## kill CRASH (300) nodes at every boundary and at random, fleets that create TENANTS (1000), RACES (10000) updates, an outage (RUN=regexp)
	$(SERVERS) TENANCY_CRASH=$(CRASH) TENANCY_CRASH_TENANTS=$(TENANTS) TENANCY_CRASH_RACES=$(RACES) go test -count=1 -p 1 -v -timeout 60m $(if $(RUN),-run '$(RUN)') ./internal/integration/crash ./internal/integration/river

.PHONY: bench
bench: ## run the benchmarks as ratios against the plain library (COUNT=1, BENCH=regexp)
	scripts/bench

.PHONY: mutants
mutants: test-servers ## take away one defence at a time and see its test fail (RUN=regexp)
	$(SERVERS) go run ./internal/mutants $(if $(RUN),-run '$(RUN)')

.PHONY: release-check
release-check: ## build every module from outside, as a user of the release does
	cd internal/releasecheck && GOWORK=off go run .

.PHONY: clean
clean: ## remove what make has installed and written
	rm -rf .bin .out
