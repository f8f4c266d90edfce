"""The recipe for an intervention op, followed in a copy of the packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ampsweep.domain.choices import OPS
from tests.docs.pages import DOCS, ROOT, blocks

PACKAGES = ("ampsweep", "api", "engine", "jobs", "worker")
RECIPE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Add an intervention op\n")[2]
NAME, CASE = (textwrap.dedent(code) for code in re.findall(r"^   ```python\n(.*?)^   ```$", RECIPE, re.M | re.S))
USE_THE_OP = """
import json
import numpy as np
from ampsweep.domain.intervention import Intervention
from api.app import openapi_document
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from jobs.spec.sweep import parse_spec

neurons = NeuronSet(
    id="ns_1", model="m", fingerprint="f", layers=1, width=4, method="imported",
    neurons={"fr": np.array([[0, 1], [0, 3]], dtype=np.int32)},
)
def edits(**changes):
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "subtract", "factor": 3, **changes})
    found = resolve(Intervention.restore(intervention.to_dict()), neurons)
    return [None if part is None else part.tolist() for part in (found.indices, found.mult, found.add, found.coef)]

spec = parse_spec({
    "model": "m", "neurons": {"id": "ns_1"}, "interventions": {"op": "subtract", "factors": [1]},
    "tasks": [{"name": "lss", "languages": ["en"]}],
})
schemas = openapi_document()["components"]["schemas"]
print(json.dumps({
    "plain": edits(), "half": edits(languages={"fr": 0.5}), "mean": edits(statistic="mean"),
    "spec": spec.interventions.op, "schema": schemas["InterventionSpec"]["properties"]["op"]["enum"],
}))
"""


@pytest.mark.processes
def test_the_recipe_for_an_op_is_complete(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    replace_once(tmp_path / "ampsweep" / "domain" / "choices.py", r"^Op = .*\n", NAME)
    replace_once(
        tmp_path / "engine" / "steering" / "edits.py", r"(?=^        case _:$)", textwrap.indent(CASE, "        ")
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = [sys.executable, "-c", USE_THE_OP]
    used = json.loads(subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout)
    assert used == {
        "plain": [[1, 3], [1.0, 1.0], [-3.0, -3.0], None],
        "half": [[1, 3], [1.0, 1.0], [-1.5, -1.5], None],
        "mean": [[1, 3], [1.0, 1.0], [0.0, 0.0], [-3.0, -3.0]],
        "spec": "subtract",
        "schema": re.findall(r'"(\w+)"', NAME),
    }
    run = [sys.executable, "-m", "ampsweep.cli", "generate", "--help"]
    shown = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
    assert "set or subtract" in " ".join(re.findall(r"[\w,-]+", shown))


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_formula_on_the_pages(op: str) -> None:
    assert any(re.search(rf"^{op} \w +a' = ", block.text, re.M) for block in blocks(DOCS / "method.md", "text"))
    assert f"`{op}`: a' = " in (DOCS / "spec.md").read_text(encoding="utf-8")


def copy_packages(folder: Path, *more: str) -> None:
    """Copy the packages, and those named in `more`, with what Python and Numba have compiled of them.

    The compiled code stays valid because each copied file keeps its modification time.
    """
    ignored = shutil.ignore_patterns("*.so", "*.pyc.*", "*.tmp.*")  # the last two are being written
    for package in (*PACKAGES, *more):
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)


def replace_once(file: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, lambda _: text, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1, file
    file.write_text(changed, encoding="utf-8")
