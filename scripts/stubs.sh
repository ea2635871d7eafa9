#!/bin/sh
# python/llmbackend/_core.pyi is generated from src/py: `--check` says whether it is fresh, `--write` writes it.
# Generating takes a build with another feature (pyo3's introspection), most of a minute: so the check runs only if
# something that it depends on has changed since it last passed.
set -eu
cd "$(dirname "$0")/.."
STUB=python/llmbackend/_core.pyi
target=${CARGO_TARGET_DIR:-target}

fresh=$(cat "$STUB" Cargo.toml Cargo.lock src/py/*.rs scripts/stubs.sh tests/requirements.txt | cksum)
if [ "$1" = --check ] && [ "$(cat "$target/stubs-checked" 2>/dev/null)" = "$fresh" ]; then exit 0; fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
PATH=$PWD/.venv/bin:$PATH .venv/bin/maturin generate-stubs --quiet --locked --features stubs \
    --interpreter .venv/bin/python --out "$out"
made=$(find "$out" -name '*.pyi')
case $1 in
--write) cp "$made" "$STUB" ;;
--check)
    diff -u "$STUB" "$made" || { echo "$STUB is not what src/py says: run make stubs" >&2; exit 1; }
    printf '%s\n' "$fresh" >"$target/stubs-checked"
    ;;
esac
