"""The recipe for a model family, followed in a copy of the packages from which the family has been removed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.models.families import Family
from tests.docs.pages import DOCS, ROOT
from tests.docs.test_contributing import copy_packages, replace_once

RECIPE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Add a model family\n")[2]
NAMES, OVERRIDES = (
    textwrap.indent(textwrap.dedent(code), "    ")
    for code in re.findall(r"^   ```text\n(.*?)^   ```$", RECIPE.partition("\n### ")[0], re.M | re.S)
)
FAMILY = f"{OVERRIDES.partition(':')[0]},\n"
COMMAND = re.findall(r"^```sh\n(pytest .*)\n```$", RECIPE, re.M)[0].split()
USE_THE_FAMILY = """
import asyncio, json, sys
from pathlib import Path
from ampsweep.folders.model import read_model_folder
from benchmarks.models.families import tiny_model
from engine.hf.engine import TransformersEngine
from engine.steering.self_test import self_test

async def use(folder):
    engine = TransformersEngine(folder)
    await self_test(engine)
    await engine.close()
    return [engine.info.model_class, engine.info.layers, engine.info.width]

folder = tiny_model("gptj", Path(sys.argv[1]))
shape = read_model_folder(folder)
print(json.dumps({"engine": asyncio.run(use(folder)), "folder": [shape.layers, shape.width]}))
"""


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """Return a copy of the packages in which the lines of the recipe are taken out, and put in where it says."""
    copy_packages(tmp_path, "benchmarks")
    sites, families = tmp_path / "engine/steering/mlp_sites.py", tmp_path / "benchmarks/models/families.py"
    for path, line in ((sites, NAMES), (families, FAMILY), (families, OVERRIDES)):
        replace_once(path, f"^{re.escape(line)}", "")
    replace_once(sites, r'(?=^    \("act_fn", "down_proj"\))', NAMES)
    replace_once(families, r'(?=^    "qwen2",$)', FAMILY)
    replace_once(families, r'(?=^    "qwen2": \{)', OVERRIDES)
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """Run Python with the packages in `folder`, and return its output."""
    env = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.processes
def test_the_recipe_for_a_model_family_is_all_that_a_family_needs(extended: Path) -> None:
    used = json.loads(run(extended, "-c", USE_THE_FAMILY, str(extended / "model")))
    assert used == {"engine": ["GPTJForCausalLM", 3, 256], "folder": [3, 256]}


def test_the_command_of_the_recipe_names_the_family() -> None:
    _, path, _, family = COMMAND
    assert (ROOT / path).is_file()
    assert family in get_args(Family)


def test_the_page_on_models_lists_the_tested_families() -> None:
    table = (DOCS / "models.md").read_text(encoding="utf-8").partition("\n\n| `model_type` |")[2].partition("\n\n")[0]
    listed = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(get_args(Family))
