# `make demo` builds oprel and asks the embedded model a question; `make test` runs every test.
.PHONY: demo test check fmt lint doc oracle static bench-peers

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

check: fmt lint doc test

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
