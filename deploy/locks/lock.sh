#!/usr/bin/env bash
# Resolves the packages of the images: one list of exact versions for each target. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/../.."

resolve() { # TARGET PYPROJECT [OPTION...]
  local target=$1 project=$2
  shift 2
  uv pip compile "$project" --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --no-annotate --no-header --quiet --output-file "deploy/locks/$target.txt" "$@"
}

resolve client pyproject.toml -c requirements/cpu.lock
resolve cpu pyproject.toml --extra cpu --extra tasks -c requirements/cpu.lock
# The overrides in pyproject.toml keep CUDA out of the CPU environment; this target needs it.
plain=$(mktemp -d)
trap 'rm -r "$plain"' EXIT
sed '/^\[tool\.uv\]/,/^\]/d' pyproject.toml >"$plain/pyproject.toml"
resolve gpu "$plain/pyproject.toml" --extra gpu --extra tasks
