# What a person or CI runs. Each target installs what it needs and can run on a fresh Debian 12 machine with a Rust
# toolchain, as root (or with sudo).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

.PHONY: quickstart
quickstart: ## An etcd and the proxy before it, with a Secret to look at from both sides; until Ctrl-C
	@deploy/quickstart.sh

.PHONY: test
test: tools ## Every test but those with a kube-apiserver
	cargo test --locked

.PHONY: e2e
e2e: tools ## A real kube-apiserver on the proxy and without it; builds it first, once, in about five minutes
	tests/e2e/build-kube-apiserver.sh
	cargo test --locked --test e2e -- --ignored --test-threads=2

TORTURE_SECONDS ?= 300
TORTURE_FEATURES ?=
# The program that judges with kube-apiserver's code and porcupine; `none` leaves both out, and the summary says so.
TORTURE_CHECKER ?= $(CURDIR)/target/torture/checker

.PHONY: torture
torture: tools ## Members and proxies frozen, killed, cut off, late and with wrong clocks under rotations, TORTURE_SECONDS (300); TORTURE_SEED repeats
	mkdir -p target/torture
	[[ '$(TORTURE_CHECKER)' == none ]] || tests/torture/checker/build.sh '$(TORTURE_CHECKER)'
	rm -f target/torture/summary
	status=0; TORTURE_SECONDS='$(TORTURE_SECONDS)' TORTURE_CHECKER='$(TORTURE_CHECKER)' \
		TORTURE_SUMMARY='$(CURDIR)/target/torture/summary' \
		cargo test --locked --features '$(TORTURE_FEATURES)' --test torture -- --ignored --exact --nocapture campaign || status=$$?; \
	tail -n 1 target/torture/summary || echo '0 passed, 1 failed'; exit $$status

.PHONY: conformance
conformance: tools ## Kubernetes' own tests of its storage in etcd, with the proxy before each etcd and every key sealed
	cargo build --locked
	tests/conformance/run.sh target/debug/etcd-encryption-proxy target/conformance '--member-record=false --sweep=off'

ATTACK_SCALE ?= 1
# `release` takes minutes to compile; `test` is what the other tests use.
ATTACK_PROFILE ?= release

.PHONY: attack
attack: tools ## Clients that make the proxy hold or do too much, each in full (ATTACK_SCALE=1); and h2spec
	tests/h2spec/build.sh target/h2spec
	ATTACK_SCALE='$(ATTACK_SCALE)' ATTACK_H2SPEC='$(CURDIR)/target/h2spec' cargo test --locked --profile '$(ATTACK_PROFILE)' \
		--test it -- attack:: --include-ignored --nocapture --test-threads=1

# The faults' and upgrades' longest run once all is compiled, seconds; the other clients have half of it.
CLIENTS_SECONDS ?= 240

.PHONY: clients
clients: tools ## Clients that are not ours: etcd's library for Go while members die, Python, Node, etcdctl, curl, h2load
	tests/clients/install.sh
	tests/gocli/build.sh target/gocli
	cargo test --locked --test clients --no-run
	export CLIENTS_GOCLI='$(CURDIR)/target/gocli'; \
	timeout --kill-after=10 "$$(($(CLIENTS_SECONDS) / 2))" \
		cargo test --locked --test clients -- --include-ignored --nocapture --test-threads=2 foreign:: tools:: watches::; \
	timeout --kill-after=10 '$(CLIENTS_SECONDS)' \
		cargo test --locked --test clients -- --include-ignored --nocapture --test-threads=1 faults:: upgrade::

.PHONY: lint
lint: tools ## Formatting, clippy, dependencies and documentation, warnings denied
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- --deny warnings
	command -v cargo-deny >/dev/null || cargo install cargo-deny --version '^0.20' --locked
	cargo deny --log-level error check bans licenses sources
	RUSTDOCFLAGS='--deny warnings' cargo doc --no-deps --document-private-items

.PHONY: dashboard
dashboard: tools ## A real Prometheus before a proxy at work answers every query of the dashboard
	cargo test --locked --test it -- --ignored --exact --nocapture observed::every_panel_has_data

.PHONY: bench
bench: tools valgrind ## What a value and a message cost; the proxy beside no proxy; a sweep: half an hour
	cargo bench --locked

.PHONY: guard
guard: valgrind ## Instructions on the hot path, held against benches/instructions/counts.json
	cargo bench --locked --bench instructions

.PHONY: spec
spec: ## The protocol of rotation, every state of it; and a counterexample for each rule taken out of it
	cargo fmt --check --manifest-path spec/Cargo.toml
	cargo clippy --locked --manifest-path spec/Cargo.toml --target-dir target/spec --all-targets -- --deny warnings
	cargo test --locked --manifest-path spec/Cargo.toml --target-dir target/spec -- --nocapture --test-threads=2

.PHONY: dist
dist: dist-tools ## Everything that a release has, in target/dist: packages, archives, images, SBOM, digests, signature
	packaging/dist.sh

.PHONY: dist-tools
dist-tools:
	@packaging/install-tools.sh

.PHONY: packages
packages: tools dist ## make dist, and what it made is installed, started, upgraded, removed, and run as a static pod; lintian, rpmlint
	packaging/test/lint.sh target/dist
	packaging/test/packages.sh target/dist/*_$$(dpkg --print-architecture).deb
	packaging/test/static-pod.sh target/dist

.PHONY: reproducible
reproducible: dist-tools ## make dist of one architecture in two folders, equal to the byte
	packaging/test/reproducible.sh

.PHONY: manifests
manifests: ## The unit, its drop-ins, the chart and all manifests are in order
	@command -v systemd-analyze >/dev/null && command -v jq >/dev/null || { as_root=$$([[ $$(id -u) == 0 ]] || echo sudo); \
		$$as_root apt-get update -qq && $$as_root apt-get install -y -qq --no-install-recommends systemd jq; }
	packaging/test/units.sh
	packaging/test/charts.sh

.PHONY: valgrind
valgrind:
	@command -v valgrind >/dev/null || { as_root=$$([[ $$(id -u) == 0 ]] || echo sudo); \
		$$as_root apt-get update -qq && $$as_root apt-get install -y -qq --no-install-recommends valgrind libc6-dbg; }

FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## Every fuzz target, FUZZ_SECONDS (60) each; needs rustup, installs a nightly toolchain and cargo-fuzz
	rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --version '^0.13' --locked
	cargo test --locked --test fuzz_smoke -- --ignored --exact seeds_are_written
	for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10; \
	done

.PHONY: tools
tools:
	@tests/install-tools.sh
