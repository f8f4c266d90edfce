#!/usr/bin/env bash
# Makes or completes the environment in .venv from requirements/cpu.lock. `make setup` calls it when lock or pyproject
# have changed; it may be run again at any time. PYTHON names another interpreter than the first fitting one.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

fail() {
  echo "setup: $*" >&2
  exit 1
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
  fail "the locked set-up is for Linux on x86_64; elsewhere install with: pip install -e '.[cpu,tasks,dev]'"

if [ ! -x .venv/bin/python ]; then
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if fits "$candidate"; then python=$candidate && break; fi
  done
  [ -n "${python:-}" ] || fail "Python 3.11 to 3.14 is needed; name one with: make setup PYTHON=/path/to/python3.12"
  "$python" -m venv .venv || fail "$python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
fi
python=.venv/bin/python
fits $python || fail ".venv holds a Python that is not 3.11 to 3.14; remove the folder and run make again"

# The CPU engine compiles small kernels at its first start; better to hear of a missing compiler now.
command -v "${CC:-cc}" >/dev/null || fail "a C compiler is needed (on Debian and Ubuntu: apt install build-essential)"
header=$($python -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
[ -f "$header" ] || fail "Python's C headers are needed, there is no $header (on Debian and Ubuntu: apt install python3-dev)"

install() {
  $python -m pip install -qq --disable-pip-version-check --no-deps "$@"
}

torch=$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' requirements/cpu.lock)
if [ "$($python -m pip show torch 2>/dev/null | sed -n 's/^Version: //p')" != "$torch+cpu" ]; then
  echo "setup: installing $(wc -l <requirements/cpu.lock) packages into .venv; this takes some minutes and 3 GB"
  # A plain index has torch as a CUDA build. The CPU build is taken from the configured indexes where they have it.
  install "torch==$torch+cpu" 2>/dev/null ||
    install --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu"
fi
install -r requirements/cpu.lock
install --no-build-isolation -e .
touch .venv/installed
