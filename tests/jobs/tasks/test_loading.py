from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import Conflict
from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from jobs.tasks.loading import load_items, task_of_cell
from jobs.tasks.requests import ScoreCall
from tests.jobs.cluster import raw_spec, write_jsonl


@pytest.fixture
def cell(catalog: Catalog) -> Cell:
    spec = parse_spec(raw_spec(tasks=[{"name": "lss", "languages": ["en"], "limit": 5}]))
    return plan(spec, catalog, NeuronSets(Path("nowhere")))[0]


def test_a_planned_cell_finds_its_items(cell: Cell, catalog: Catalog) -> None:
    item_set = load_items(cell, catalog)
    assert len(item_set.items) + item_set.left_out == 5
    assert load_items(cell, catalog) == item_set


def test_data_that_changed_since_planning_is_refused(cell: Cell, catalog: Catalog) -> None:
    assert catalog.atlas is not None
    with (catalog.atlas / "templates.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(Conflict, match="has changed since"):
        load_items(cell, catalog)


def test_a_cell_of_another_version_of_its_task_is_refused(cell: Cell, catalog: Catalog) -> None:
    with pytest.raises(Conflict, match="version 99"):
        load_items(replace(cell, task=replace(cell.task, version=99)), catalog)


def test_a_cell_of_another_release_of_a_plugin_is_refused(cell: Cell, catalog: Catalog) -> None:
    planned = replace(cell, task=replace(cell.task, plugins=("ampsweep-yes-no==1.0",)))
    assert planned.id != cell.id
    assert Cell.from_dict(planned.to_dict()) == planned
    with pytest.raises(Conflict, match=r"is planned for ampsweep-yes-no==1\.0, this server has no plug-in"):
        load_items(planned, catalog)


HALF = "\ud83d"
LIGHTS = {"question": "Quelle couleur ?", "choices": ["Orange", "Rouge", "Jaune", "Bleu"], "label": 0}


@pytest.mark.parametrize(
    ("task", "name", "rows"),
    [
        ("include", "fr.jsonl", [LIGHTS, {**LIGHTS, "question": f"Un visage {HALF} ?"}, LIGHTS]),
        ("include", "fr.jsonl", [LIGHTS, {**LIGHTS, "id": f"visage-{HALF}"}, LIGHTS]),
        ("perplexity", "fr.jsonl", [{"text": "un"}, {"text": f"visage {HALF}"}, {"text": "trois"}]),
        ("generation", "fr.jsonl", [{"text": "un"}, {"text": f"visage {HALF}"}, {"text": "trois"}]),
        ("flores", "fr.jsonl", [{"text": "un"}, {"text": f"visage {HALF}"}, {"text": "trois"}]),
    ],
)
def test_a_lone_surrogate_fails_only_its_own_item(
    catalog: Catalog, task: str, name: str, rows: list[dict[str, object]]
) -> None:
    assert catalog.data is not None
    folder = catalog.data / "own"
    folder.mkdir()
    (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if task == "flores":
        write_jsonl(folder / "en.jsonl", [{"text": str(number)} for number in range(3)])
    tasks = [{"name": task, "languages": ["fr"], "data": "own"}]
    cell = plan(parse_spec(raw_spec(tasks=tasks)), catalog, NeuronSets(Path("nowhere")))[0]
    loaded = load_items(cell, catalog).items
    assert [(item.error is None, bool(item.calls)) for item in loaded] == [(True, True), (False, False), (True, True)]
    sample = task_of_cell(cell).sample(loaded[1], [])
    assert sample.error is not None
    assert "half a character (a lone surrogate)" in sample.error
    assert sample.error.count(r"\ud83d") == 1
    for text in (sample.error, sample.doc_id):
        text.encode()


def test_the_calls_of_an_item_are_scored_from_one_border_and_by_lm_evals_rule_in_mode_paper(catalog: Catalog) -> None:
    for mode, split in (("corrected", "aligned"), ("paper", "lm_eval")):
        spec = parse_spec(raw_spec(mode=mode, tasks=[{"name": "lss", "languages": ["en"], "limit": 5}]))
        first, *_ = plan(spec, catalog, NeuronSets(Path("nowhere")))
        (item, *_) = load_items(first, catalog).items
        calls = [call for call in item.calls if isinstance(call, ScoreCall)]
        assert len(calls) == 2
        assert {call.split for call in calls} == {split}
        texts = tuple((call.context, call.continuation) for call in calls)
        assert all(call.options == (texts if mode == "corrected" else ()) for call in calls)


def test_in_a_chat_the_options_are_chats_too(catalog: Catalog) -> None:
    spec = parse_spec(raw_spec(tasks=[{"name": "lss", "languages": ["en"], "limit": 5, "chat": True}]))
    cell, *_ = plan(spec, catalog, NeuronSets(Path("nowhere")))
    (item, *_) = load_items(cell, catalog).items
    for call in item.calls:
        assert isinstance(call, ScoreCall)
        assert (call.context, call.continuation) in call.options
        assert not isinstance(call.context, str)
