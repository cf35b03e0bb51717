# Everything a person or a machine does here goes through this file; `make` lists it.

SHELL := /bin/bash
CARGO ?= cargo
# Network namespaces need root; as root, nothing is put in front.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH")

.DEFAULT_GOAL := help
.PHONY: help setup build image demo test quick chart e2e conformance pictures lint fmt bless bench doc clean

help: ## Lists what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Installs what building and running need: Debian's packages; checks for Rust
	@scripts/setup

build: setup ## Builds the release program: target/release/bridgewarden
	$(CARGO) build --release --locked

demo: build ## Shows policies holding between real pods on two nodes in network namespaces, and removes everything
	$(SUDO) target/release/bridgewarden demo --once

test: setup ## Runs every test, those on the real kernel included, in namespaces of their own
	$(SUDO) $(CARGO) test --workspace --locked

quick: ## Runs the unit tests of the pure part, from policies to rules: seconds after a change
	$(CARGO) test --locked -p bridgewarden-core --lib

chart: ## Tests the Helm chart and install.yaml; needs Go
	@charts/test

image: build ## Builds the container image bridgewarden/bridgewarden:dev with docker
	docker build -t bridgewarden/bridgewarden:dev .

e2e: setup ## Plays the scenarios on real clusters that it makes and removes, and shows what an outage does; needs Go
	@$(SUDO) e2e/all

conformance: setup ## Runs Kubernetes' own NetworkPolicy cases on such a cluster, for each backend
	@$(SUDO) e2e/conformance $(ARGS)

pictures: setup ## Draws the pictures of dashboards anew, from a run in network namespaces
	DRAW=1 $(SUDO) $(CARGO) test --locked --test dashboards

lint: ## Checks form, lints and the subjects of commits; warnings are errors
	@scripts/check-subjects
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Puts all code into form
	$(CARGO) fmt --all

bless: ## Rewrites golden rules and generated docs from the code; read the difference before you commit it
	BLESS=1 $(CARGO) test --locked --test scenarios --test metrics_doc
	BLESS=1 charts/test

bench: setup ## Measures 10,000 pods on a real API server; SIZE=1k or 100k, PEER='command' beside it; needs Go
	@$(SUDO) bench/run $(ARGS)

doc: ## Builds the crate's pages
	$(CARGO) doc --no-deps --locked -p bridgewarden -p bridgewarden-core

clean: ## Removes what was built
	$(CARGO) clean
