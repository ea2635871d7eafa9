# Each verb works alone, on a machine that has only Python 3.10 or newer and a Rust toolchain.
#   PYTHON=...            the Python to make .venv with
#   CARGO_TARGET_DIR=...  where Rust keeps what it has built; ./target
#   ARGS=...              passed on to `llmbackend demo`, pytest or a benchmark

export PATH := $(PATH):$(HOME)/.cargo/bin
PY := .venv/bin/python
SETUP := @sh scripts/setup.sh

.DEFAULT_GOAL := help
.PHONY: help demo test test-engines bench-engines lint format stubs

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: ## a batch of thousands of prompts, from text to typed values, against the built-in sandbox
	$(SETUP) build
	@.venv/bin/llmbackend demo $(ARGS)

test: ## the Rust tests (the core alone, without Python), then pytest
	$(SETUP) tools build
	cargo test --locked --quiet
	$(PY) -m pytest -n 4 $(ARGS)

test-engines: ## real engines on tiny models, and our client against real servers; installs them (5 GB) into .venv-engines
	$(SETUP) build engines
	.venv-engines/bin/python -m pytest tests/engines $(ARGS)

bench-engines: ## what a batch gains on the local engines, and what our API costs over theirs; installs as test-engines does
	$(SETUP) build engines
	.venv-engines/bin/python benches/local_engines.py $(ARGS)

lint: ## formatting, clippy, ruff, mypy, and whether the type stubs are fresh
	$(SETUP) tools build
	cargo fmt --check
	cargo clippy --locked --quiet --all-targets -- -D warnings
	$(PY) scripts/as_maturin.py cargo clippy --locked --quiet --all-targets --features python -- -D warnings
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	sh scripts/stubs.sh --check

format: ## format Rust and Python
	$(SETUP) tools
	cargo fmt
	.venv/bin/ruff check --fix-only --quiet
	.venv/bin/ruff format

stubs: ## write python/llmbackend/_core.pyi anew, after a change in src/py
	$(SETUP) tools build
	sh scripts/stubs.sh --write
