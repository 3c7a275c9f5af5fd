# golangci-lint is built from source at this version and kept in ./bin under its
# version's name, so that raising the version is enough to get the new one.
GOLANGCI_VERSION := v2.15.0
GOLANGCI         := bin/golangci-lint-$(GOLANGCI_VERSION)

# A hanging test is killed, with all stacks, well before the CI machine is. What go test
# would vet go vet has vetted: it would go through all dependencies again.
TEST_FLAGS := -timeout 5m -vet=off
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

# Benchmarks with dependencies of their own are modules of their own.
MODULES := benchmarks/peers benchmarks/scale

# The packages that have tests with a build constraint.
packages_with = $(shell grep -rl --include='*_test.go' '^//go:build $(1)' . | xargs -n 1 dirname | sort -u)

# No file is left out by the tag, so what is vetted with it is all there is, but for the
# constants that say whether the race detector is on.
#
# What counts allocations or nanoseconds means nothing under the race detector, which
# is why some packages have files without it: those run both ways, and so do the random
# graphs, of which it gets a part. To compile and link the others twice would take
# longer than their tests do.
PLAIN_PACKAGES = $(call packages_with,!race)

.PHONY: test
test: ## Vet everything, run all tests under the race detector, some also plain
	go vet -race -tags integration ./...
	go test $(TEST_FLAGS) -race ./...
	go test $(TEST_FLAGS) $(PLAIN_PACKAGES)
	@for module in $(MODULES); do \
		echo "in $$module:"; (cd $$module && go vet -race ./... && go test $(TEST_FLAGS) -race ./...) || exit 1; \
	done

# Of the packages that have such tests, only these tests: make test has run the
# others. A broker of its own is started beside them, and ended.
INTEGRATION_PACKAGES = $(call packages_with,integration)

.PHONY: integration
integration: bin/withkafka ## Tests against real Kafka, and those that take long: some minutes
	bin/withkafka go test -timeout 20m -vet=off -count 1 -tags integration -race -run '^TestIntegration' \
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
	@for module in $(MODULES); do (cd $$module && $(CURDIR)/$(GOLANGCI) run ./...) || exit 1; done

$(GOLANGCI):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv bin/golangci-lint $@

# What benchmarks leave: tables in out/bench, JSON and charts in benchmarks/results.
BENCH_OUT := out/bench
RESULTS   := benchmarks/results

.PHONY: bench
bench: bench-engine ## The engine beside hand-written code, goals met or missed: a minute

.PHONY: bench-engine
bench-engine:
	go run ./benchmarks/engine $(BENCH_FLAGS)

.PHONY: bench-state
bench-state: ## State larger than memory, and what checkpoints cost, goals met or missed
	go run ./benchmarks/state $(BENCH_FLAGS)

.PHONY: bench-nexmark
bench-nexmark: ## The Nexmark queries
	go run ./benchmarks/nexmark $(BENCH_FLAGS)

.PHONY: bench-scale
bench-scale: ## Cost by the number of keys, operators, splits and subtasks, with charts
	cd benchmarks/scale && go run . $(BENCH_FLAGS)

.PHONY: bench-guard
bench-guard: ## Fail if a key ratio has got worse than the one committed
	go run ./benchmarks/guard $(BENCH_FLAGS)

bin/withkafka: FORCE
	@mkdir -p bin
	go build -buildvcs=false -o $@ ./internal/realkafka/withkafka

.PHONY: FORCE
FORCE:

.PHONY: bench-kafka
bench-kafka: bin/withkafka ## From topic to topic beside a loop by hand and goka, on a broker of its own
	bin/withkafka go run ./benchmarks/kafka $(BENCH_FLAGS)

.PHONY: bench-latency
bench-latency: bin/withkafka ## Time from topic to topic by load, on a broker of its own
	go build -buildvcs=false -o bin/bench-latency ./benchmarks/latency
	bin/withkafka bin/bench-latency $(BENCH_FLAGS)

.PHONY: peers
peers:
	mvn -q -B -f benchmarks/peers/java/pom.xml package

.PHONY: bench-peers
bench-peers: bin/withkafka peers ## Eight jobs beside goka, Kafka Streams and Flink, on a broker of its own
	cd benchmarks/peers && go build -buildvcs=false -o ../../bin/bench-peers .
	bin/withkafka bin/bench-peers $(BENCH_FLAGS)

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
	bin/bench-clickhouse -url clickhouse://127.0.0.1:19331/default $(BENCH_FLAGS)

# One after the other, so that none disturbs another. A suite that fails does not
# keep the others from running, but fails the whole in the end.
.PHONY: bench-full
bench-full: SHELL := /bin/bash
bench-full: ## All benchmarks, with all goals in the end: 45 minutes
	@mkdir -p $(BENCH_OUT)
	@set -o pipefail; failed=; \
	for suite in $(BENCH_SUITES); do \
		echo "=== $$suite"; began=$$SECONDS; \
		$(MAKE) --no-print-directory $$suite BENCH_FLAGS="-json $(CURDIR)/$(RESULTS)/$${suite#bench-}.json" | tee $(BENCH_OUT)/$$suite.txt || failed="$$failed $$suite"; \
		echo "=== $$suite: $$((SECONDS - began)) s"; \
	done; \
	echo "=== goals"; \
	for suite in $(BENCH_SUITES); do grep -HE '(met|MISSED)' $(BENCH_OUT)/$$suite.txt; done | sed 's|^$(BENCH_OUT)/||; s|\.txt:|: |'; \
	if [[ $$failed ]]; then echo "=== FAILED:$$failed"; exit 1; fi

BENCH_SUITES := bench-engine bench-state bench-nexmark bench-scale bench-kafka bench-latency bench-peers bench-clickhouse

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
