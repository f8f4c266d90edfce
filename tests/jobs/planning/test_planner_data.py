"""How a plan uses the data of its tasks: the facts it asks, its warnings, and what it rejects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.cell import Cell
from jobs.planning.catalog import Catalog
from jobs.planning.planner import Plan
from jobs.tasks.loading import load_items
from tests.jobs.cluster import planned, write_jsonl


def task_warnings(plan: Plan) -> tuple[str, ...]:
    """Return the warnings about tasks."""
    return tuple(warning for warning in plan.warnings if warning.startswith("tasks."))


def write_sparse_facts(catalog: Catalog) -> None:
    """Delete the French object of the first fact and the Turkish object of the second."""
    assert catalog.atlas is not None
    path = catalog.atlas / "facts.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    del rows[0]["object"]["fr"]
    del rows[1]["object"]["tr"]
    write_jsonl(path, rows)


def lss(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "lss", "languages": ["en"], **more}]


def test_facts_that_all_languages_have_leave_the_cells_what_they_were(catalog: Catalog) -> None:
    plain = planned(catalog, tasks=lss(limit=3))
    assert task_warnings(plain) == ()
    assert {cell.task.shared_by for cell in plain} == {()}
    for facts in ("shared", "any"):
        assert [cell.id for cell in planned(catalog, tasks=lss(limit=3, facts=facts))] == [cell.id for cell in plain]


def test_sparse_facts_are_drawn_from_those_that_all_languages_have(catalog: Catalog) -> None:
    write_sparse_facts(catalog)
    shared, any_ = planned(catalog, tasks=lss(limit=5)), planned(catalog, tasks=lss(limit=5, facts="any"))
    assert {cell.task.shared_by for cell in shared} == {(("en",), ("fr", "tr"))}
    assert {cell.task.shared_by for cell in any_} == {()}
    assert not {cell.id for cell in shared} & {cell.id for cell in any_}
    few = "fewer than the limit of 5; only these are used"
    assert task_warnings(shared) == (f"tasks.0: lss: 4 of 6 facts are in all of the languages en, fr, tr, {few}",)
    assert task_warnings(any_) == (
        "tasks.0: lss: 4 of 6 facts are in all of the languages en, fr, tr; pairs of languages use different facts",
    )
    for cell in shared:
        assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell
    items = {tuple(item.doc_id for item in load_items(cell, catalog).items) for cell in shared}
    assert items == {("capital-PL", "capital-GR", "capital-CN")}  # Ankara has one name


def test_the_languages_that_share_facts_are_part_of_a_cells_identity(catalog: Catalog) -> None:
    write_sparse_facts(catalog)
    wide, narrow = (
        planned(catalog, tasks=lss(limit=3, targets=targets)).cells[0] for targets in (["fr", "tr"], ["fr"])
    )
    assert wide.task.target_language == narrow.task.target_language == "fr"
    assert wide.id != narrow.id


def test_facts_is_rejected_for_tasks_without_facts(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="task xcopa asks no facts") as caught:
        planned(catalog, tasks=[{"name": "xcopa", "languages": ["it"], "facts": "any"}])
    assert caught.value.param == "tasks.0.facts"


def test_languages_without_a_common_fact_are_refused_at_the_field(catalog: Catalog) -> None:
    assert catalog.atlas is not None
    path = catalog.atlas / "facts.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for index, row in enumerate(rows):
        del row["object"]["fr" if index % 2 else "tr"]
    write_jsonl(path, rows)
    with pytest.raises(InvalidRequest, match="facts: any") as caught:
        planned(catalog, tasks=lss())
    assert caught.value.param == "tasks.0.facts"


def test_repeated_ids_give_one_warning_a_language_and_change_the_cells(catalog: Catalog) -> None:
    tasks = [{"name": "xcopa", "languages": ["it"]}]
    before = planned(catalog, tasks=tasks)
    assert catalog.data is not None
    path = catalog.data / "xcopa" / "test.it.jsonl"
    path.write_text(path.read_text("utf-8").replace('"idx": 2', '"idx": 0'), encoding="utf-8")
    after = planned(catalog, tasks=tasks)
    assert task_warnings(before) == ()
    (warning,) = task_warnings(after)
    assert warning.startswith("tasks.0: xcopa it: 1 of the ids repeat an earlier one")
    assert [item.doc_id for item in load_items(after.cells[0], catalog).items] == ["0", "1", "0#2"]


def test_broken_data_is_refused_before_anything_is_computed(catalog: Catalog) -> None:
    assert catalog.data is not None
    path = catalog.data / "xcopa" / "test.it.jsonl"
    path.write_text(path.read_text("utf-8").replace('"La donna ha tossito."', "null"), encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"test\.it\.jsonl, line 1: premise must be a text; got null") as caught:
        planned(catalog, tasks=[{"name": "xcopa", "languages": ["it"]}])
    assert caught.value.param == "tasks.0.data"


@pytest.mark.parametrize(
    ("task", "files", "needs"),
    [
        ("xcopa", {"test.fr.jsonl": "{}\n", "test.it.jsonl": "{}\n"}, "connectors; there are some for et, ht, id, it"),
        ("flores", {"devtest/en.txt": "A.\n", "devtest/qqq.txt": "B.\n"}, "an English name for the prompt"),
    ],
)
def test_a_language_with_a_file_is_told_what_else_it_needs(
    catalog: Catalog, tmp_path: Path, task: str, files: dict[str, str], needs: str
) -> None:
    for name, text in files.items():
        path = tmp_path / "data" / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    language = {"xcopa": "fr", "flores": "qqq"}[task]
    with pytest.raises(InvalidRequest, match=f"unknown language of task {task} '{language}'.*; .*{needs}") as refused:
        planned(
            replace(catalog, data=tmp_path / "data"), tasks=[{"name": task, "languages": [language], "data": "own"}]
        )
    assert refused.value.param == "tasks.0.languages.0"
