# What a person runs. Every target installs what it needs (apt, pip, cargo) and can be run again.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/etcd-encryption-proxy
FUZZ_SECONDS ?= 60

.PHONY: help quickstart test e2e lint bench fuzz

help:
	@echo 'make quickstart  an etcd, the proxy, a Secret stored through it; stays up until Ctrl-C'
	@echo 'make test        all tests, against real etcd 3.4 and 3.5'
	@echo 'make e2e         a real kube-apiserver through the proxy (builds one first, once)'
	@echo 'make lint        rustfmt, clippy, cargo deny, cargo doc'
	@echo 'make bench       benchmarks of sealing and opening'
	@echo 'make fuzz        every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS), on nightly'

quickstart:
	@deploy/quickstart.sh

test:
	tests/install-tools.sh
	cargo test --locked --all-targets

e2e:
	tests/install-tools.sh
	tests/e2e/build-kube-apiserver.sh
	cargo test --locked --test e2e -- --ignored --test-threads=1 --nocapture

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check bans licenses sources

bench:
	cargo bench --locked --bench value

fuzz:
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	set -e; for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536; \
	done
