# The commands for people and CI; `make` lists them.

SHELL := /bin/bash
CARGO ?= cargo
# Network namespaces need root; root needs no sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH")

.DEFAULT_GOAL := help
.PHONY: help setup build image release demo test quick chart e2e conformance vm-test pictures lint fmt bless bench doc clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Installs the Debian packages for building and testing; checks for Rust
	@scripts/setup

build: setup ## Builds the release program: target/release/bridgewarden
	$(CARGO) build --release --locked

demo: build ## Enforces policies between real pods on two nodes in network namespaces, and removes everything
	$(SUDO) target/release/bridgewarden demo --once

test: setup ## Runs every test, including those on the real kernel, which use separate network namespaces
	$(SUDO) $(CARGO) test --workspace --locked

quick: ## Runs the unit tests of core/, from policies to rules: seconds after a change
	$(CARGO) test --locked -p bridgewarden-core --lib

chart: ## Tests the Helm chart and install.yaml; needs Go
	@charts/test

image: build ## Builds the container image bridgewarden/bridgewarden:dev with docker
	docker build -t bridgewarden/bridgewarden:dev .

release: setup ## Makes the files of a release in target/release-files: program, image, chart, checksums; needs Go
	rm -rf target/release-files
	release/build $(ARGS) target/release-files

e2e: setup ## Runs the e2e scenarios on real clusters that it creates and removes, and the outage trials; needs Go
	@$(SUDO) e2e/all

conformance: setup ## Runs Kubernetes' own NetworkPolicy cases on a real cluster, for each backend; needs Go
	@$(SUDO) e2e/conformance $(ARGS)

vm-test: ## Runs the demo and the packet tests in virtual machines with Debian's kernels, without a network; needs KVM or ARGS=--emulate
	@scripts/setup vm
	@e2e/vm/run $(ARGS)

pictures: setup ## Redraws the pictures of the dashboards, from a run in network namespaces, and of the page of reach
	DRAW=1 $(SUDO) $(CARGO) test --locked --test dashboards --test page

lint: ## Checks formatting, clippy lints and the subjects of commits; warnings are errors
	@scripts/check-subjects
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Formats all code
	$(CARGO) fmt --all

bless: ## Rewrites golden files and generated docs from the code; review the difference before you commit it
	BLESS=1 $(CARGO) test --locked --test scenarios --test metrics_doc --test explain_doc --test reach
	BLESS=1 charts/test

bench: setup ## Measures 10,000 pods on a real API server; SIZE=1k or 100k; PEER='command' measures it, too; needs Go
	@$(SUDO) bench/run $(ARGS)

doc: ## Builds the documentation of both crates
	$(CARGO) doc --no-deps --locked -p bridgewarden -p bridgewarden-core

clean: ## Removes build output
	$(CARGO) clean
