#!/usr/bin/env bash
# Makes or completes the environment in .venv from a lock: `requirements/install.sh demo` installs what a server needs,
# `requirements/install.sh cpu` also what tests, checks and documentation need. `make` calls it when a lock or pyproject
# has changed; it may be run again at any time. PYTHON names the interpreter to use instead of the first suitable one.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=requirements/${1:-cpu}.lock

fits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

fail() {
  echo "setup: $*" >&2
  exit 1
}

# timed STEP COMMAND...: run a command, and say what it does and how long it took.
timed() {
  local step=$1 start=$SECONDS
  shift
  echo "setup: $step ..."
  "$@" || return
  echo "setup: $step took $((SECONDS - start)) s"
}

# configured OPTION: print the value that an option of pip has by the environment or by pip's files.
configured() {
  local scope
  for scope in :env: install global; do
    sed -n "s/^$scope\.$1='\(.*\)'$/\1/p" <<<"$pip_settings" | grep . && return
  done
  true
}

# bring_uv: install uv, which installs several times as fast as pip, and pass pip's sources and certificates on to it.
bring_uv() {
  [ -x .venv/bin/uv ] || $python -m pip install -qq --disable-pip-version-check uv 2>/dev/null || return
  local value pip_settings
  pip_settings=$($python -m pip config list)
  sources=(--index-strategy unsafe-best-match) # a package may come from any index, as with pip
  value=$(configured index-url)
  [ -z "$value" ] || sources+=(--default-index "$value")
  for value in $(configured extra-index-url); do sources+=(--index "$value"); done
  for value in $(configured find-links); do sources+=(--find-links "$value"); done
  value=$(configured cert)
  [ -z "$value" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$value}"
}

# install ARGUMENTS: install exactly these packages; with pip if uv is not available or fails.
# uv compiles as pip does: Ray gives up on a first start that compiles all of its own modules.
install() {
  [ "$uv" = yes ] && .venv/bin/uv pip install --python $python --no-deps --compile-bytecode ${quiet:+-q} "${sources[@]}" "$@" ||
    $python -m pip install -qq --disable-pip-version-check --no-deps "$@"
}

# install_torch: install torch's CPU build. A plain index has torch as a CUDA build; the CPU build is taken from the
# configured indexes where they have it.
install_torch() {
  install "torch==$torch+cpu" 2>/dev/null || install --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu"
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
  fail "the locked set-up is for Linux on x86_64; elsewhere install with: pip install -e '.[cpu,tasks,dev]'"

if [ ! -x .venv/bin/python ]; then
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if fits "$candidate"; then python=$candidate && break; fi
  done
  [ -n "${python:-}" ] || fail "Python 3.11 to 3.14 is needed; name one with: make setup PYTHON=/path/to/python3.12"
  "$python" -m venv .venv || fail "$python cannot create a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
fi
python=.venv/bin/python
fits $python || fail "the Python in .venv is not 3.11 to 3.14; remove the folder and run make again"

# The CPU engine compiles small kernels when it first starts; report a missing compiler now.
command -v "${CC:-cc}" >/dev/null || fail "a C compiler is needed (on Debian and Ubuntu: apt install build-essential)"
header=$($python -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
[ -f "$header" ] || fail "Python's C headers are needed, there is no $header (on Debian and Ubuntu: apt install python3-dev)"

uv=yes
bring_uv || uv=no
quiet=yes
[ ! -t 2 ] || quiet= # on a terminal, uv draws its bars

torch=$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' "$lock")
if [ ! -d "$(echo .venv/lib/python3*/site-packages)/torch-$torch+cpu.dist-info" ]; then
  echo "setup: installing into .venv, 3 GB: 2 to 4 minutes with uv, up to 10 with pip; uv is used: $uv"
  timed "installing torch" install_torch
fi
missing=$(mktemp)
trap 'rm -f "$missing"' EXIT
$python requirements/missing.py "$lock" >"$missing" || cp "$lock" "$missing" # without a list, pip or uv finds out
count=$(grep -c . "$missing" || true)
if [ "$count" -gt 0 ]; then
  timed "installing $count of the $(wc -l <"$lock") packages of $lock, the others are there" install -r "$missing"
fi
timed "installing ampsweep" install --no-build-isolation -e .
touch ".venv/installed-${1:-cpu}"
