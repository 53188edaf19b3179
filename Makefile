# `make demo` builds oprel and asks the embedded model a question; `make test` runs every test.
.PHONY: demo test check fmt lint doc oracle static bench-peers test-aarch64 check-windows conformance faults

demo:
	cargo run --release --quiet --bin oprel -- run demo "How do I start the server?"

test:
	cargo test --workspace

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Other GGUF readers as witnesses, in a workspace of their own.
oracle:
	cargo test --manifest-path tests/oracle/Cargo.toml

# What the daemon must survive, with all numbers of the table; `make test` runs fewer of each. What it costs is measured
# with the program as it is released: on the demo, and on OPREL_LARGE=a-1b-model.gguf where that is set.
faults:
	OPREL_FAULTS=full cargo test -p oprel-cli --test faults -- --nocapture --test-threads 1
	OPREL_FAULTS=full cargo test --release -p oprel-cli --test faults overhead -- --nocapture --test-threads 1
	OPREL_FAULTS=full cargo test -p oprel-hub --test fetch -- --nocapture --test-threads 1
	OPREL_FLIPS=all cargo test -p oprel-tests --test flips -- --nocapture

check: fmt lint doc test

# The kernels' tests for 64-bit ARM, in an emulator that has every instruction they use.
AARCH64 = aarch64-unknown-linux-gnu
AARCH64_LINKER ?= aarch64-linux-gnu-gcc
AARCH64_RUNNER ?= qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu
AARCH64_STD = $(shell $${RUSTC:-rustc} --print target-libdir --target $(AARCH64))

test-aarch64:
	@test -d "$(AARCH64_STD)" || { echo "no Rust library for $(AARCH64): rustup target add $(AARCH64)"; exit 1; }
	@command -v $(AARCH64_LINKER) >/dev/null || \
		{ echo "no linker $(AARCH64_LINKER): Debian's gcc-aarch64-linux-gnu, or AARCH64_LINKER=..."; exit 1; }
	@command -v $(firstword $(AARCH64_RUNNER)) >/dev/null || \
		{ echo "no emulator $(firstword $(AARCH64_RUNNER)): Debian's qemu-user, or AARCH64_RUNNER=..."; exit 1; }
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$(AARCH64_LINKER)" \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$(AARCH64_RUNNER)" \
	cargo test --target $(AARCH64) -p oprel-cpu --lib --tests $(TESTS)

# All that is only for Windows, compiled: that needs neither a linker nor Windows.
WINDOWS ?= x86_64-pc-windows-gnu
WINDOWS_STD = $(shell $${RUSTC:-rustc} --print target-libdir --target $(WINDOWS))

check-windows:
	@test -d "$(WINDOWS_STD)" || { echo "no Rust library for $(WINDOWS): rustup target add $(WINDOWS)"; exit 1; }
	cargo check --workspace --target $(WINDOWS)

STATIC_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

static:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile static --target $(STATIC_TARGET) --bin oprel
	@ls -l target/$(STATIC_TARGET)/static/oprel

# Whole models beside llama.cpp, with a Python that has llama-cpp-python:
# make bench-peers MODELS="a.gguf b.gguf" [PEER=peer_llama_cpp.py] [PYTHON=python3] [BENCH="--depth 4096 --out t.md"]
PEER ?= ../shared/tools/peer_llama_cpp.py
PYTHON ?= python3

bench-peers:
	cargo build --release --bin oprel
	$(PYTHON) benches/peers.py --peer $(PEER) $(BENCH) $(MODELS)

# Real client programs against the real server: make conformance [OPREL_BIN=an/oprel] [SCRIPTS="client_openai sockets"]
# Their packages are installed below target/; what cannot be had is skipped and told.
conformance:
	@test -n "$(OPREL_BIN)" || cargo build --release --bin oprel
	OPREL_BIN="$(or $(OPREL_BIN),$(CURDIR)/target/release/oprel)" $(PYTHON) tests/conformance/run.py $(SCRIPTS)
