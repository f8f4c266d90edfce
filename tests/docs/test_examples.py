"""The specs, interventions and requests on the pages are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ampsweep.cli.commands.batch_line import parse
from ampsweep.domain.intervention import Intervention
from api.routes.neuron_sets import parse_neuron_set
from jobs.spec.interventions import InterventionsSpec
from jobs.spec.sweep import parse_spec
from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.shell import run_commands

SPEC = yaml.safe_load((ROOT / "examples" / "atlas.yaml").read_text(encoding="utf-8"))


def test_the_front_page_shows_a_spec() -> None:
    specs = [parse_spec(yaml.safe_load(block.text)) for block in blocks(ROOT / "README.md", "yaml")]
    assert "first-look" in {spec.name for spec in specs}


def test_the_task_page_shows_a_task_of_a_spec() -> None:
    specs = [
        parse_spec({**SPEC, **yaml.safe_load(block.text)}).to_dict()
        for block in blocks(DOCS / "bring-a-task.md", "yaml")
    ]
    assert "exam" in {task.get("data") for spec in specs for task in spec["tasks"]}


@pytest.mark.processes
def test_the_task_page_runs_a_task_of_lm_eval(tmp_path: Path) -> None:
    """The engine is the fake one; `tests/worker/test_lm_eval.py` compares the figures of real engines."""
    (commands,) = [block.text for block in blocks(DOCS / "bring-a-task.md", "sh") if "LM_EVAL" in block.text]
    run_commands(commands.replace("ampsweep run", "ampsweep run --engine fake"), tmp_path, "bring-a-task.md")
    rows = pq.read_table(tmp_path / "out" / "capitals" / "summary.parquet").to_pylist()
    assert {(row["task"], row["metric"], row["n"]) for row in rows} == {("lm_eval:my_capitals", "acc", 2)}


def test_the_page_on_specs_shows_valid_parts_of_specs() -> None:
    parts = [yaml.safe_load(block.text) for block in blocks(DOCS / "spec.md", "yaml")]
    whole = [part for part in parts if {"model", "neurons", "interventions", "tasks"} <= part.keys()]
    assert [parse_spec(spec).name for spec in whole] == ["french-and-turkish"]
    for part in parts:
        of_interventions = part if part.keys() <= InterventionsSpec.model_fields.keys() else None
        added = {"interventions": {**SPEC["interventions"], **of_interventions}} if of_interventions else part
        parse_spec({**SPEC, **added})


def test_the_page_on_keeping_a_language_shows_a_spec() -> None:
    (text,) = re.findall(r"keep\.yaml <<EOF\n(.*?)^EOF$", (DOCS / "keep-a-language.md").read_text(), re.M | re.S)
    assert parse_spec(yaml.safe_load(text.replace("$ID", "ns_1"))).interventions.running_text == "when"


def test_the_page_on_specs_shows_an_intervention() -> None:
    examples = [json.loads(block.text) for block in blocks(DOCS / "spec.md", "json")]
    assert examples
    for raw in examples:
        Intervention.from_dict(raw)


def test_the_page_on_commands_shows_lines_of_a_batch() -> None:
    lines = [line for block in blocks(DOCS / "cli.md", "json") for line in block.text.splitlines()]
    assert {parse(line).kind for line in lines} == {"generate", "score"}


def test_the_page_on_rest_shows_neurons() -> None:
    bodies = [json.loads(block.text) for block in blocks(DOCS / "rest.md", "json")]
    assert {parse_neuron_set(body).model for body in bodies if "neurons" in body} == {"atlas"}
