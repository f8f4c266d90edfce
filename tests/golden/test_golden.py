"""Contracts that must not change by accident: each is compared with its golden file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from tests.golden.contracts import CONTRACTS, FOLDER, difference, golden_file
from tests.golden.inputs import write_inputs
from tests.golden.specs import SPECS

REMEDY = (
    "{name} differs from tests/golden/{name}.json. Others rely on it: results are reused by cell id, and clients use "
    "these names. If the change is intended, say so in CHANGELOG.md and run: python -m tests.golden {name}\n{diff}"
)


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_what_its_golden_file_says(name: str) -> None:
    if name == "cells_lm_eval":
        pytest.importorskip("lm_eval")
    if diff := difference(name):
        pytest.fail(REMEDY.format(name=name, diff=diff), pytrace=False)


def test_every_golden_file_belongs_to_a_contract() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {golden_file(name).name for name in CONTRACTS}


def test_the_golden_cells_are_many_and_the_engines_versions_are_part_of_an_id(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lines = [line for lines in json.loads(golden_file("cells").read_text(encoding="utf-8")).values() for line in lines]
    assert len({line.split()[0] for line in lines}) > 100
    catalog, neuron_sets = write_inputs(tmp_path_factory.mktemp("golden") / "inputs")
    cell = plan(parse_spec(SPECS["op: add"]), catalog, neuron_sets)[1]
    assert replace(cell, engine_version="another").id != cell.id
