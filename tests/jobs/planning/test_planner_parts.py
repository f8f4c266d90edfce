"""The cells of a sweep that steers only some tokens, a part of an answer, or answers that drift."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest

from ampsweep.domain.drift import Drift
from ampsweep.errors import InvalidRequest, SweepTooLarge
from jobs.cell import Cell
from jobs.planning.catalog import Catalog
from jobs.results.finalization.assembly import sources_of
from jobs.results.schema import cell_columns
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import planned, raw_spec

TOKENS: tuple[dict[str, Any] | None, ...] = (None, {"end": 8}, {"end": 8, "decay": 0.5})


def test_every_choice_of_tokens_has_the_cells_that_it_has_alone(catalog: Catalog) -> None:
    interventions: dict[str, Any] = {
        "languages": ["fr"],
        "op": "scale",
        "factors": [2, 4],
        "scope": "generation",
        "controls": ["zero"],
        "baselines": [{"method": "diffmean", "factors": [4]}],
    }
    tasks = [{"name": "xcopa", "languages": ["it"]}]

    def cells_of(tokens: object, **options: int) -> list[Cell]:
        return list(planned(catalog, interventions={**interventions, "tokens": tokens}, tasks=tasks, **options))

    cells = cells_of(list(TOKENS))
    assert {cell.id for cell in cells} == {cell.id for tokens in TOKENS for cell in cells_of(tokens)}
    assert [cell.id for cell in cells_of([{"end": 8}])] == [cell.id for cell in cells_of({"end": 8})]
    labels = Counter(cell_columns(cell)["tokens"] for cell in cells if cell.intervention is not None)
    assert labels == dict.fromkeys((None, "end=8", "end=8, decay=0.5"), 4)  # a vector, two factors, zero
    assert [cell.intervention.factor for cell in cells if cell.intervention is not None][3:8] == [2, 0, 4, 2, 0]
    assert len(cells) == 1 + 3 * 4, "the control zero counts once, whatever the factors"
    assert cells_of(list(TOKENS), max_cells=len(cells)) == cells
    with pytest.raises(SweepTooLarge, match=f"{len(cells)} cells"):
        cells_of(list(TOKENS), max_cells=len(cells) - 1)


def test_parts_and_drift_may_be_compared_with_steering_all_the_time(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "scope": "generation"}
    tasks = [generation(catalog)]
    choices = {"when": [None, "drift", {"drift": {"window": 90}}], "part": [None, "answer"]}
    cells = planned(catalog, interventions={**interventions, **choices}, tasks=tasks)
    columns = [cell_columns(cell) for cell in cells if cell.intervention is not None]
    assert [(row["when"], row["part"]) for row in columns] == [
        (when, part) for when in (None, "drift", "drift, window=90") for part in (None, "answer")
    ]
    assert [cell.id for cell in cells[:2]] == [
        cell.id for cell in planned(catalog, interventions=interventions, tasks=tasks)
    ]
    assert [cell.identifier is None for cell in cells] == [True, True, True, False, False, False, False]
    with pytest.raises(InvalidRequest, match=r"task xcopa \(tasks.0\) scores given texts.* leave when out"):
        planned(catalog, interventions={**interventions, **choices}, tasks=[{"name": "xcopa", "languages": ["it"]}])


def generation(catalog: Catalog) -> dict[str, Any]:
    """Return a task that continues one text."""
    assert catalog.data is not None
    prompts = catalog.data / "prompts"
    prompts.mkdir()
    (prompts / "en.txt").write_text("Once upon a time\n", encoding="utf-8")
    return {"name": "generation", "languages": ["en"], "data": "prompts"}


def test_a_sweep_may_steer_only_what_drifts(catalog: Catalog) -> None:
    interventions: dict[str, Any] = {
        "languages": ["fr"],
        "op": "set",
        "factors": [2],
        "controls": ["random", "zero"],
        "when": {"drift": {"window": 90}},
        "baselines": [{"method": "diffmean", "factors": [4]}],
    }
    tasks = [generation(catalog)]
    cells = planned(catalog, interventions=interventions, tasks=tasks)
    chosen = [cell.intervention.when for cell in cells if cell.intervention is not None]
    assert chosen == [Drift(window=90)] * 5
    identifier = f"py3langid {metadata.version('py3langid')}"
    assert [cell.identifier for cell in cells if cell.intervention is not None] == [identifier] * 5
    assert {cell.identifier for cell in cells if cell.intervention is None} == {None}
    steered = next(cell for cell in cells if cell.intervention is not None)
    assert replace(steered, identifier="py3langid 0").id != steered.id
    assert Cell.from_dict(steered.to_dict()) == steered
    assert sources_of(cells)["identifiers"] == [identifier]
    always = planned(catalog, interventions={**interventions, "when": None}, tasks=tasks)
    assert [cell.id for cell in cells if cell.intervention is None] == [
        cell.id for cell in always if cell.intervention is None
    ]
    assert len({cell.id for cell in (*cells, *always)}) == 2 * len(cells) - 1


@pytest.mark.parametrize("task", ["xcopa", "lss"])
def test_a_task_that_scores_given_texts_has_nothing_that_drifts(catalog: Catalog, task: str) -> None:
    tasks = [generation(catalog), {"name": task, "languages": ["it" if task == "xcopa" else "en"]}]
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "when": "drift"}
    with pytest.raises(
        InvalidRequest, match=rf"task {task} \(tasks.1\) scores given texts.* leave when out"
    ) as refused:
        planned(catalog, interventions=interventions, tasks=tasks)
    assert refused.value.param == "interventions.when"
    thinking = {**interventions, "when": None, "part": "thinking"}
    with pytest.raises(InvalidRequest, match="leave part out") as refused:
        planned(catalog, interventions=thinking, tasks=tasks)
    assert refused.value.param == "interventions.part"
    alone = planned(catalog, interventions=thinking, tasks=tasks[:1])
    assert {cell.identifier for cell in alone} == {None}
    assert "identifiers" not in sources_of(alone)
    assert [cell.intervention.part for cell in alone if cell.intervention is not None] == ["thinking"]
    with pytest.raises(InvalidRequest, match="leave one of them out") as refused:
        parse_spec(raw_spec(interventions={**interventions, "scope": "prompt"}))
    assert refused.value.param == "interventions.scope"
