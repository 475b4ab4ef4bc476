# Everything runs with Go, git and make alone; `make race` also wants a C compiler, `make test-mta` root and apt-get.
SHELL       := /bin/bash
GO          ?= go
BUILD       := build
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION)
FUZZTIME    ?= 3000x
FAULTS      ?= 24000
KILLS       ?= 200
SEED        ?=
BEFORE      ?= $(shell git describe --tags --abbrev=0 HEAD^ 2>/dev/null || echo HEAD~50)
# The last one whose modules are all on the module proxy.
NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
PLATFORMS   := linux/amd64 linux/arm64 freebsd/amd64 darwin/arm64
ARCH        ?= $(shell $(GO) env GOARCH)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build run test vet fmt unit fuzz fuzz-short race test-faults test-kill test-matrix bench bench-quick flood lint docs test-mta test-upgrade test-admin test-redis sim cross package test-package test-systemd test-downgrade clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/gatepost
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gatepost ./cmd/gatepost

run: build ## build it and watch it work: gatepost demo
	bin/gatepost demo

test: vet fmt unit ## vet, formatting, unit, dialogue and property tests, the public suites, the seeds of the fuzz targets

vet:
	$(GO) vet ./...
	$(GO) vet -tags mta,systemd ./cmd/gatepost
	$(GO) vet -tags browser ./cmd/gatepost

fmt:
	@unformatted=$$(gofmt -l cmd proxy filters policy rules); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi

unit:
	@.ci/gotest $(BUILD)/test.log $(GO) test -v ./...

fuzz-short: ## every fuzz target for 3,000 inputs
	@.ci/fuzz $(FUZZTIME)

fuzz: ## fuzz every parser for a minute each (FUZZTIME=10m for longer)
	@.ci/fuzz $(if $(filter 3000x,$(FUZZTIME)),1m,$(FUZZTIME))

race: ## the tests under the race detector
	@CGO_ENABLED=1 .ci/gotest $(BUILD)/race.log $(GO) test -v -race -timeout 20m ./...

test-faults: ## every dialogue broken at 24,000 places, outages, floods (FAULTS=100000 for more, SEED=n to repeat)
	@GATEPOST_FAULT_POSITIONS=$(FAULTS) GATEPOST_FAULT_SEED=$(SEED) .ci/gotest $(BUILD)/faults.log \
		$(GO) test -v -count=1 -timeout 60m ./proxy/faulttest; status=$$?; \
		grep -E '^(faults|outages|smuggling|flood): ' $(BUILD)/faults.log; exit $$status

test-kill: ## kill -9 under load, 200 times, and what is left each time (KILLS=n, SEED=n to repeat; make test has 8)
	@GATEPOST_KILLS=$(KILLS) GATEPOST_KILL_SEED=$(SEED) .ci/gotest $(BUILD)/kill.log \
		$(GO) test -v -count=1 -timeout 60m -run Kill9UnderLoad ./cmd/gatepost; status=$$?; \
		grep -E '^kill -9: ' $(BUILD)/kill.log; exit $$status

bench: build ## all that is said about speed and memory, measured, into docs/benchmarks.md (twenty minutes)
	$(GO) run ./cmd/gatepost-bench -gatepost bin/gatepost -out docs/benchmarks.md

bench-quick: build ## a rough look at the same in a minute
	$(GO) run ./cmd/gatepost-bench -gatepost bin/gatepost -quick

flood: build ## 15,000 connections, endless commands, huge headers: memory, and how others are served; writes docs/floods.md
	$(GO) run ./cmd/gatepost-bench -gatepost bin/gatepost -flood -out docs/floods.md

lint: ## staticcheck
	$(GO) run $(STATICCHECK) ./...

docs: ## write the generated parts of the manual anew
	$(GO) run ./cmd/gatepost-docs
	@mkdir -p $(BUILD) && $(GO) run ./cmd/gatepost man page >$(BUILD)/commands.md && mv $(BUILD)/commands.md docs/commands.md

test-matrix: ## the matrix of keywords, commands, TLS and pipelining: every set of keywords (make test has a part of it)
	@GATEPOST_MATRIX=long .ci/gotest $(BUILD)/matrix.log $(GO) test -v -count=1 -run TestMatrix ./proxy

test-mta: build ## against Debian's Postfix, Exim, sendmail, OpenSMTPD and Courier in a folder of their own (root)
	@.ci/mta $(BUILD)/mta

test-admin: ## the admin pages in a headless Chromium; pictures of them in build/admin
	@GATEPOST_SCREENSHOTS=$(CURDIR)/$(BUILD)/admin .ci/gotest $(BUILD)/admin.log $(GO) test -v -count=1 -tags browser -run InABrowser ./cmd/gatepost

cross: ## build for every system that is supported, into build/cross
	@for platform in $(PLATFORMS); do \
		echo "$$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
			-o $(BUILD)/cross/gatepost-$${platform%/*}-$${platform#*/} ./cmd/gatepost || exit 1; \
	done

package: ## a Debian package, in build/ (ARCH=arm64 for another machine)
	@GO=$(GO) NFPM=$(NFPM) .ci/package $(BUILD) $(ARCH) '$(VERSION)' '$(LDFLAGS)'

test-package: ## install, start, upgrade, remove and purge the package in a folder of its own (root)
	@GO=$(GO) NFPM=$(NFPM) .ci/test-package $(BUILD) '$(VERSION)'

test-systemd: ## the package under a real systemd, booted in namespaces of its own: start, reload, upgrade, watchdog, stop (root)
	@GO=$(GO) NFPM=$(NFPM) .ci/test-systemd $(BUILD)

test-upgrade: ## ten upgrades under a thousand sessions, and a connection every millisecond (make test has three under a hundred)
	@GATEPOST_UPGRADES=10 GATEPOST_UPGRADE_SESSIONS=1000 .ci/gotest $(BUILD)/upgrade.log \
		$(GO) test -v -count=1 -timeout 5m -run 'Upgrade|Successor|OldOne|Systemd' ./cmd/gatepost; status=$$?; \
		grep -hoE 'upgrades: .*' $(BUILD)/upgrade.log; exit $$status

test-downgrade: ## to the release before and back, by restarts and upgrades, over one state (BEFORE=commit; the last tag, or 50 commits ago)
	@GO=$(GO) .ci/downgrade $(BUILD) $(BEFORE)

test-redis: ## the shared store against real redis-servers: outages, failover, a cluster (make test has it where redis-server is)
	@[ -n "$$GATEPOST_REDIS" ] || command -v redis-server valkey-server >/dev/null || .ci/redis $(BUILD)/redis
	@.ci/gotest $(BUILD)/redis.log $(GO) test -v -count=1 -timeout 5m ./proxy/store/engine ./proxy/store/shared && \
		.ci/gotest $(BUILD)/redis-commands.log $(GO) test -v -count=1 -timeout 5m -run 'Site|Copied|Interrupted' ./cmd/gatepost

sim: ## three days of honest mail and a botnet of a million over real stores, under a virtual clock: what is promised, measured (SEED=n; sizes: docs/scale.md)
	@[ -n "$$GATEPOST_REDIS" ] || command -v redis-server valkey-server >/dev/null || .ci/redis $(BUILD)/redis
	@GATEPOST_SIM=long GATEPOST_SIM_SEED=$(SEED) .ci/gotest $(BUILD)/sim.log $(GO) test -v -count=1 -timeout 60m ./proxy/simtest; status=$$?; \
		sed -n 's/^    [a-z_]*\.go:[0-9]*: //p' $(BUILD)/sim.log; exit $$status

clean: ## remove what was built
	rm -rf bin $(BUILD)
