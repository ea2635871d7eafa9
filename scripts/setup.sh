#!/bin/sh
# Makes what `make demo`, `make test` and the others run on, and does nothing where it is there already:
#   sh scripts/setup.sh tools          .venv with all of tests/requirements.txt
#   sh scripts/setup.sh build          .venv with what a build needs, and the extension built into python/llmbackend
#   sh scripts/setup.sh tools build    both
#   sh scripts/setup.sh build engines  besides, .venv-engines with all of tests/engines/requirements.lock
# Says what is missing, and where to get it, if the machine lacks Python, venv, Cargo or a C compiler.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv
REQUIREMENTS=tests/requirements.txt
# What the demo needs; the versions are those of $REQUIREMENTS.
BUILD_TOOLS="maturin pydantic tqdm"
CARGO_AT_LEAST=1.85
ENGINES=.venv-engines
LOCK=tests/engines/requirements.lock
# Installs the lock in half a minute; pip takes minutes.
UV=uv==0.13.9

say() { printf '%s\n' "==> $*" >&2; }
die() { echo >&2; printf '%s\n' "$@" >&2; exit 1; }

find_python() {
    newest=none
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do
        version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$name"
            return
        fi
        newest="$name is Python $version"
    done
    die "Python 3.10 or newer is needed (found: $newest)." \
        "Install it from https://www.python.org/downloads or with your package manager, or name one: make PYTHON=/path/to/python3 ..."
}

make_venv() {
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    python=$(find_python) || exit 1
    say "making $VENV with $("$python" --version 2>&1)"
    rm -rf "$VENV"
    if ! log=$("$python" -m venv "$VENV" 2>&1); then
        rm -rf "$VENV"
        die "$python cannot make a virtual environment:" "$log" \
            "On Debian and Ubuntu: sudo apt install python3-venv. Or name another Python: make PYTHON=/path/to/python3 ..."
    fi
}

# install STAMP ARGUMENTS...: pip install, unless that was done with the same requirements.
install() {
    stamp=$VENV/.installed-$1
    shift
    if cmp -s "$REQUIREMENTS" "$stamp"; then return; fi
    say "installing Python packages into $VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
        die "pip could not install what is needed; the reason stands above."
    cp "$REQUIREMENTS" "$stamp"
}

check_cargo() {
    command -v cargo >/dev/null 2>&1 || die "Rust $CARGO_AT_LEAST or newer is needed, and cargo is not there." \
        "Install it from https://rustup.rs"
    version=$(cargo --version 2>&1) || die "Rust $CARGO_AT_LEAST or newer is needed, and cargo does not run: $version" \
        "See https://rustup.rs"
    if ! echo "$version" | awk -v least="$CARGO_AT_LEAST" '{
        split($2, have, "."); split(least, want, ".")
        exit !(have[1] > want[1] || (have[1] == want[1] && have[2] + 0 >= want[2] + 0)) }'
    then
        die "Rust $CARGO_AT_LEAST or newer is needed; this is $version." "Update it with: rustup update stable"
    fi
    command -v "${CC:-cc}" >/dev/null 2>&1 || die "A C compiler is needed (${CC:-cc} is not there): Rust links with it." \
        "On Debian and Ubuntu: sudo apt install gcc libc6-dev. On Fedora: sudo dnf install gcc. On macOS: xcode-select --install"
}

# The extension of this .venv's Python, newer than everything that it is built from.
is_built() {
    suffix=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    [ -f "$VENV/.built" ] && [ -f "python/llmbackend/_core$suffix" ] &&
        [ -z "$(find src Cargo.toml Cargo.lock pyproject.toml -newer "$VENV/.built" | head -n 1)" ]
}

build() {
    if is_built; then return; fi
    say "building the Rust core (minutes the first time, seconds later)"
    # The stamp is as old as the start of the build: what is edited during it counts as newer.
    touch "$VENV/.building"
    VIRTUAL_ENV=$PWD/$VENV PATH=$PWD/$VENV/bin:$PATH "$VENV/bin/maturin" develop --locked ||
        die "The build failed; the reason stands above."
    mv "$VENV/.building" "$VENV/.built"
}

# What .venv-engines is made of: .venv's Python, whose extension it shares, and the lock.
describe_engines() {
    "$VENV/bin/python" -VV
    pwd
    cat "$LOCK"
}

check_engines() {
    [ "$(uname -sm)" = "Linux x86_64" ] || die "The versions in $LOCK are those of Linux on x86_64; this is $(uname -sm)."
    "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "The versions in $LOCK need Python 3.11 or newer; $VENV has $("$VENV/bin/python" --version 2>&1)." \
            "Make it anew with another: rm -r $VENV; make PYTHON=/path/to/python3 ..."
}

engines() {
    stamp=$ENGINES/.installed
    if describe_engines | cmp -s - "$stamp"; then return; fi
    check_engines
    say "installing Transformers, vLLM and MLX into $ENGINES (5 GB, a minute or a few)"
    "$VENV/bin/python" -m venv --clear "$ENGINES"
    pip="$ENGINES/bin/python -m pip install --quiet --disable-pip-version-check"
    # uv reads no pip.conf: where only a mirror named there can be reached, pip does it.
    { $pip "$UV" && "$ENGINES/bin/uv" pip install --quiet --python "$ENGINES/bin/python" --no-deps -r "$LOCK"; } ||
        { say "uv could not; trying pip" && $pip --no-deps -r "$LOCK"; } ||
        die "The engines could not be installed; the reason stands above."
    # The extension is there, built by and for the same Python.
    echo "$PWD/python" >"$("$ENGINES/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/llmbackend.pth"
    describe_engines >"$stamp"
}

# What is missing is said before anything is installed.
case " $* " in *" build "*) check_cargo ;; esac
for step in "$@"; do
    case $step in
    tools)
        make_venv
        install tools -r "$REQUIREMENTS"
        cp "$REQUIREMENTS" "$VENV/.installed-build"
        ;;
    build)
        make_venv
        install build -c "$REQUIREMENTS" $BUILD_TOOLS
        build
        ;;
    engines)
        make_venv
        engines
        ;;
    *) die "setup.sh: unknown step $step" ;;
    esac
done
