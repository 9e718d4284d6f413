# What there is to call: `make help`. Everything else a target needs, it installs by itself (Debian 12, root, Go).
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

BIN        ?= bin/cnibox
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME   ?= 60s
BENCH      ?= .
BENCHCOUNT ?= 1
DESTDIR    ?=
CNI_BIN    ?= /opt/cni/bin
DIST       ?= dist
ARCHES     ?=

# urfave_cli_no_docs drops the generators of manual pages, which cost every plugin call its start-up.
export GOFLAGS := -tags=urfave_cli_no_docs -buildvcs=false
TOOLS := bin/tools

# The order is that of first use.
.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Static and reproducible: no cgo, no paths, no build ID, no PIE (which starts slower). Only the version differs between two commits.
# Big packages that are never hot are not inlined: a tenth of the size, and nothing at start. (Without inlining of all packages, their
# variables would be made at start: a hundred allocations more.)
NOINLINE := $(addprefix github.com/,cnibox/cnibox/command/... cnibox/cnibox/ipam/dhcp/... cnibox/cnibox/netutil/overlay containernetworking/... google/... mdlayher/... urfave/... vishvananda/... xrash/...) golang.org/x/... text/... regexp/... encoding/json reflect fmt
.PHONY: build
build: ## build bin/cnibox: static, trimmed, reproducible
	@CGO_ENABLED=0 go build -buildmode=exe -trimpath $(NOINLINE:%=-gcflags=%=-l) \
		-ldflags '-s -w -buildid= -X main.version=$(VERSION)' -o $(BIN) .

NFPM := $(TOOLS)/nfpm
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
.PHONY: dist
dist: $(NFPM) ## make what a release consists of, in DIST (dist), for ARCHES (all): archives, packages, image, checksums
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) go run ./scripts/dist -out '$(DIST)' -version '$(VERSION)' -nfpm '$(NFPM)' -arches '$(ARCHES)'

.PHONY: demo
demo: build ## run two pod networks for real, of one node and of four, in namespaces of their own, and show each step
	@scripts/test-deps iproute2 nftables
	@go run ./scripts/demo

E2E := bin/e2e
.PHONY: e2e
e2e: build $(E2E)/containerd2/containerd ## have cnitool, containerd and podman attach pods through it, each on a host of its own; E2E_FLAGS, see docs/e2e.md
	@scripts/test-deps containerd iproute2 nftables podman runc
	@GOFLAGS= CGO_ENABLED=0 go -C tools/clients build -buildvcs=false -trimpath -o $(abspath $(E2E))/ ./cri github.com/containernetworking/cni/cnitool
	@CGO_ENABLED=0 go build -trimpath -o $(E2E)/ ./scripts/e2e/guest
	@go run ./scripts/e2e $(E2E_FLAGS)

.PHONY: e2e-kubernetes
e2e-kubernetes: build $(E2E)/containerd2/containerd $(E2E)/kubernetes ## have Kubernetes run pods on two nodes through it, see docs/e2e.md; builds for long, once
	@scripts/test-deps iproute2 iptables nftables runc
	@CGO_ENABLED=0 go build -trimpath -o $(E2E)/ ./scripts/e2e/guest
	@go run ./scripts/e2e kubernetes

.PHONY: e2e-packages
e2e-packages: $(NFPM) ## install, upgrade and remove the packages with pods running, and run the other architectures' executables, see docs/e2e.md
	@scripts/test-deps containerd iproute2 kmod nftables qemu-system-arm qemu-system-misc qemu-user-static rpm runc skopeo systemd umoci xz-utils
	@$(MAKE) dist VERSION=v0.1.0 DIST=$(E2E)/packages/v0.1.0 ARCHES=$$(go env GOARCH)
	@$(MAKE) dist VERSION=v0.2.0 DIST=$(E2E)/packages/v0.2.0
	@go run ./scripts/e2e packages qemu
	@go run ./scripts/arch -dist $(E2E)/packages/v0.2.0

.PHONY: test
test: $(TOOLS)/gotestsum ## run all tests, those in network namespaces too (root)
	@scripts/test-deps
	@scripts/test

.PHONY: race
race: $(TOOLS)/gotestsum
	@scripts/test-deps
	@scripts/test-deps gcc libc6-dev
	@scripts/test -race

.PHONY: vmtest
vmtest: $(TOOLS)/gotestsum ## run the tests that need namespaces in virtual machines with Debian's kernel; VMTEST_FLAGS, see docs/testing.md
	@scripts/test-deps
	@scripts/test-deps kmod qemu-system-x86 xz-utils
	@scripts/test -vm $(VMTEST_FLAGS)

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## run golangci-lint: the rules of .golangci.yml, formatting included; and compile for 32 bits
	@$(TOOLS)/golangci-lint run ./...
	@GOARCH=arm CGO_ENABLED=0 go build -o /dev/null .

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## look for known vulnerabilities in what is called of other modules and of Go's library
	@TOOLS=$(TOOLS) scripts/vuln

.PHONY: reproducible
reproducible: $(NFPM)
	@scripts/reproducible

.PHONY: check
check: ## run all that CI runs: lint, vuln, test, vmtest, race, reproducible build, fuzz, bench-quick
	@scripts/check

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (60s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: crash
crash: build ## have every system call of the plugins go wrong, or a sample; CRASH_FLAGS, see docs/testing.md
	@scripts/test-deps
	@go run ./scripts/crash $(CRASH_FLAGS)

.PHONY: bench
bench: build ## measure what attaching a pod costs, beside the reference plugins; BENCH_FLAGS, see docs/benchmarks.md
	@scripts/test-deps iproute2 iptables nftables
	@go run ./scripts/bench $(QUICK) $(BENCH_FLAGS)

.PHONY: bench-quick
bench-quick: QUICK := -quick
bench-quick: bench ## the same in under five minutes: fewer rounds, cases and pods

.PHONY: microbench
microbench: ## run the Go benchmarks that match BENCH, with allocations
	@scripts/test-deps
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCHCOUNT) ./...

.PHONY: install
install: build ## install the executable and its symlinks in DESTDIR and CNI_BIN (/opt/cni/bin)
	$(BIN) install --dir '$(DESTDIR)$(CNI_BIN)'

.PHONY: clean
clean: ## remove what make made (bin, dist)
	rm -rf bin dist

# The tools' versions stand in tools/go.mod, apart from the module's own dependencies.
$(TOOLS)/gotestsum: PKG = gotest.tools/gotestsum
$(TOOLS)/golangci-lint: PKG = github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/govulncheck: PKG = golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/gotestsum $(TOOLS)/golangci-lint $(TOOLS)/govulncheck: tools/go.mod tools/go.sum
	@echo "building $(notdir $@) (once, as tools/go.mod names it)"
	@GOFLAGS= CGO_ENABLED=0 go -C tools build -trimpath -buildvcs=false -ldflags '-s -w' -o $(abspath $@) $(PKG)
	@touch $@

# By itself, as what it needs is not what the others do.
$(TOOLS)/nfpm: tools/nfpm/go.mod tools/nfpm/go.sum
	@echo "building nfpm (once, as tools/nfpm/go.mod names it)"
	@GOFLAGS= CGO_ENABLED=0 go -C tools/nfpm build -trimpath -buildvcs=false -ldflags '-s -w' -o $(abspath $@) github.com/goreleaser/nfpm/v2/cmd/nfpm
	@touch $@

# What of make e2e takes minutes to build. The versions stand in the go.mod of each.
CONTAINERD := github.com/containerd/containerd/v2
$(E2E)/containerd2/containerd: tools/containerd/go.mod tools/containerd/go.sum
	@echo "building containerd (once, as tools/containerd/go.mod names it; five minutes of CPU time)"
	@mkdir -p $(@D)
	@GOFLAGS= CGO_ENABLED=0 go -C tools/containerd build -buildvcs=false -trimpath -tags 'no_btrfs no_devmapper no_zfs no_aufs' \
		-ldflags "-s -w -X $(CONTAINERD)/version.Version=$$(GOFLAGS= go -C tools/containerd list -m -f '{{.Version}}' $(CONTAINERD))" \
		-o $(abspath $(@D))/ $(addprefix $(CONTAINERD)/cmd/,containerd containerd-shim-runc-v2 ctr)
	@touch $@

$(E2E)/kubernetes: $(addprefix tools/kubernetes/,go.mod go.sum main.go)
	@echo "building Kubernetes (once, as tools/kubernetes/go.mod names it; 22 minutes of CPU time)"
	@GOFLAGS= CGO_ENABLED=0 go -C tools/kubernetes build -buildvcs=false -trimpath \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$(GOFLAGS= go -C tools/kubernetes list -m -f '{{.Version}}' k8s.io/kubernetes)" \
		-o $(abspath $@) .
	@touch $@
