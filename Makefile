# golangci-lint is built from source at this version and kept in ./bin under its
# version's name, so that raising the version is enough to get the new one.
GOLANGCI_VERSION := v2.15.0
GOLANGCI         := bin/golangci-lint-$(GOLANGCI_VERSION)

# A hanging test is killed, with all stacks, well before the CI machine is.
TEST_FLAGS := -timeout 5m
FUZZ_TIME  ?= 10s

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## Web analytics on generated traffic, for about twenty seconds
	@mkdir -p bin
	go build -buildvcs=false -o bin/webanalytics ./examples/webanalytics
	@bin/webanalytics -demo

# The tests run twice: what counts allocations or nanoseconds means nothing under
# the race detector, and what races does not show without it.
.PHONY: test
test: ## Vet, build everything, run all tests plain and under the race detector
	go vet ./...
	go vet -tags integration ./...
	go build -buildvcs=false ./...
	go test $(TEST_FLAGS) ./...
	go test $(TEST_FLAGS) -race ./...

# Of the packages that have such tests, only these tests: make test has run the
# others. A broker of its own is started beside them, and ended.
INTEGRATION_PACKAGES = $(shell grep -rl --include='*_test.go' '^//go:build integration' . | xargs -n 1 dirname | sort -u)

.PHONY: integration
integration: ## Tests against real Kafka, and those that take long: some minutes
	@mkdir -p bin
	go build -buildvcs=false -o bin/withkafka ./internal/realkafka/withkafka
	bin/withkafka go test -timeout 20m -count 1 -tags integration -race -run '^TestIntegration' \
		$(INTEGRATION_PACKAGES)

.PHONY: crashtest
crashtest: ## Web analytics on 2 million events, killed 50 times: some minutes
	go run ./examples/webanalytics/crashtest -events 2000000 -kills 50

# A seed after which the graphs are others than those of every test run.
.PHONY: nightly
nightly: ## Random graphs survive 2,000 kills: some minutes
	go test -timeout 30m -run TestKilledGraphs -v ./internal/reference -graph.kills 2000 -graph.kills.seed 10000

.PHONY: lint
lint: $(GOLANGCI) ## Linters, import directions and formatting
	$(GOLANGCI) run ./...

$(GOLANGCI):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv bin/golangci-lint $@

.PHONY: bench
bench: ## The engine beside hand-written code, goals met or missed
	go run ./benchmarks/engine

.PHONY: bench-state
bench-state: ## State larger than memory, and what checkpoints cost, goals met or missed
	go run ./benchmarks/state

.PHONY: bench-kafka
bench-kafka: ## From topic to topic beside a loop by hand and goka, on a broker of its own
	@mkdir -p bin
	go build -buildvcs=false -o bin/withkafka ./internal/realkafka/withkafka
	bin/withkafka go run ./benchmarks/kafka

# The server is a development one: it has to be there, and the benchmark, as any
# program outside, can't start it by itself.
.PHONY: bench-clickhouse
bench-clickhouse: SHELL := /bin/bash
bench-clickhouse: ## Rows into ClickHouse beside clickhouse-go and ch-go
	@mkdir -p bin
	go build -buildvcs=false -o bin/devclickhouse ./cmd/devclickhouse
	go build -buildvcs=false -o bin/bench-clickhouse ./benchmarks/clickhouse
	@dir=$$(mktemp -d); bin/devclickhouse -dir $$dir -native 127.0.0.1:19331 -http 127.0.0.1:19332 & pid=$$!; \
	trap "kill $$pid; wait $$pid; rm -rf $$dir" EXIT; \
	until (exec 3<>/dev/tcp/127.0.0.1/19331) 2>/dev/null; do kill -0 $$pid || exit 1; sleep 0.2; done; \
	bin/bench-clickhouse -url clickhouse://127.0.0.1:19331/default

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZ_TIME (10s)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | \
	while IFS=: read -r file func; do \
		target=$${func#func }; \
		echo "fuzz $$(dirname "$$file") $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) "$$(dirname "$$file")" || exit 1; \
	done

.PHONY: clean
clean: ## Remove what was built and measured here
	rm -rf bin out .cache
	find . -type f \( -name '*.test' -o -name '*.prof' -o -name '*.pprof' \) -delete
