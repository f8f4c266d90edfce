"""Successive halving over factors, from the spec to the last rung, without an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.cell import Cell
from jobs.planning.catalog import Catalog
from jobs.planning.search import Rung, Search, search_of
from jobs.spec.sweep import SweepSpec, parse_spec
from jobs.tasks.registry import task_for
from tests.jobs.cluster import planned, raw_spec

TASKS: list[dict[str, Any]] = [
    {"name": "lss", "languages": ["en", "zh"], "limit": 5},
    {"name": "xcopa", "languages": ["it"]},
]
GENERATION = {"name": "generation", "languages": ["en", "fr"], "limit": 5}
CHANGES: dict[str, Any] = {
    "interventions": {"languages": ["fr", "tr"], "op": "set", "factors": [1, 2, 3, 4, 5], "controls": ["other"]},
    "tasks": TASKS,
    "search": {"method": "halving", "items": 1, "keep": 1},
}


def spec_of(**changes: Any) -> SweepSpec:
    return parse_spec(raw_spec(**{**CHANGES, **changes}))


def halving(**changes: Any) -> Search:
    search = search_of(spec_of(**changes))
    assert search is not None
    return search


def steered(cells: Sequence[Cell], task: str = "lss") -> set[tuple[str, float, int | None, str | None]]:
    """Return target, factor, items and selection of the steered cells of a task."""
    return {
        (intervention.languages[0], intervention.factor, cell.task.limit, intervention.selection)
        for cell in cells
        if (intervention := cell.intervention) is not None and cell.task.name == task
    }


def qualities(cells: Sequence[Cell], best: dict[str, float]) -> dict[str, float]:
    """Return an LSS for each steered cell: the larger the nearer its factor is to the best one of its target."""
    lss = {}
    for cell in cells:
        if cell.intervention is not None:
            (target,) = cell.intervention.languages
            lss[cell.id] = 1 / (1 + abs(cell.intervention.factor - best[target]))
    return lss


def test_rungs_halve_the_factors_and_double_the_items_until_few_are_left() -> None:
    assert halving().rungs == (
        Rung(factors=5, items=1),
        Rung(factors=3, items=2),
        Rung(factors=2, items=4),
        Rung(factors=1, items=None),
    )


def test_a_spec_reads_back_as_it_was_written() -> None:
    for search in ("grid", "halving", {"method": "halving", "items": 3}):
        spec = spec_of(search=search)
        assert parse_spec(spec.to_dict()) == spec
    assert spec_of(search="halving").to_dict()["search"] == {"method": "halving", "items": 8, "keep": 2}


def test_no_rung_has_more_items_than_the_task() -> None:
    search = halving(search={"method": "halving", "items": 4, "keep": 2})
    assert search.rungs == (Rung(factors=5, items=4), Rung(factors=2, items=None))


def test_a_grid_has_no_search_and_all_cells_at_once(catalog: Catalog) -> None:
    for grid in ({}, {"search": "grid"}):
        cells = planned(catalog, **{**CHANGES, "search": None, **grid})
        assert {factor for _, factor, _, _ in steered(cells)} == {1, 2, 3, 4, 5}
        assert search_of(spec_of(**{"search": None, **grid})) is None


def test_a_search_begins_with_all_factors_on_few_items_and_every_baseline(catalog: Catalog) -> None:
    cells = planned(catalog, **CHANGES)
    assert steered(cells) == {(target, factor, 1, None) for target in ("fr", "tr") for factor in (1, 2, 3, 4, 5)}
    assert steered(cells, "xcopa") == set()
    baselines = {(cell.task.name, cell.task.limit) for cell in cells if cell.intervention is None}
    assert baselines == {("lss", 5), ("lss", 1), ("xcopa", None)}


def test_repeats_and_prompt_baselines_are_asked_once_on_all_items(catalog: Catalog) -> None:
    interventions = {**CHANGES["interventions"], "controls": ["other", "repeat"], "baselines": ["prompt_en"]}
    changes = {**CHANGES, "interventions": interventions}
    cells = list(planned(catalog, **changes))
    search = halving(**changes)
    while further := search.next(cells, qualities(cells, {"fr": 5.0, "tr": 5.0})):
        cells += further
    extra = [
        (cell.method, cell.task.name, cell.task.limit)
        for cell in cells
        if cell.intervention is None and cell.method is not None
    ]
    assert Counter(extra) == {
        ("repeat", "lss", 5): 4,
        ("repeat", "xcopa", None): 1,
        ("prompt_en", "lss", 5): 4,
        ("prompt_en", "xcopa", None): 2,
    }


def test_vector_baselines_take_no_part_in_the_search_and_are_run_on_all_items(catalog: Catalog) -> None:
    vector = {"method": "diffmean", "factors": [2, 4]}
    interventions = {**CHANGES["interventions"], "controls": ["random"], "baselines": [vector]}
    changes = {**CHANGES, "interventions": interventions}
    cells = list(planned(catalog, **changes))
    search = halving(**changes)
    while further := search.next(cells, qualities(cells, {"fr": 5.0, "tr": 5.0})):
        assert all(cell.method in (None, "neurons") for cell in further)
        cells += further
    vectors = [cell for cell in cells if cell.method == "diffmean"]
    assert {cell.task.limit for cell in vectors if cell.task.name == "lss"} == {5}
    assert Counter(cell.task.name for cell in vectors) == {"lss": 4 * 2 * 2, "xcopa": 2 * 2 * 2}
    assert {cell.intervention.factor for cell in cells if cell.method == "neurons" and cell.intervention} >= {1, 5}


def test_each_target_continues_with_its_better_half_and_ends_with_everything(catalog: Catalog) -> None:
    search, cells = halving(), list(planned(catalog, **CHANGES))
    best = {"fr": 4.0, "tr": 1.0}
    rungs = []
    while further := search.next(cells, qualities(cells, best)):
        rungs.append(further)
        cells += further
    second, third, last = rungs
    assert steered(second) == {
        *[("fr", factor, 2, None) for factor in (3, 4, 5)],
        *[("tr", factor, 2, None) for factor in (1, 2, 3)],
    }
    assert steered(third) == {
        *[("fr", factor, 4, None) for factor in (3, 4)],  # 3 and 5 are equally good: the smaller one continues
        *[("tr", factor, 4, None) for factor in (1, 2)],
    }
    best_of_both = {(target, factor, selection) for target, factor in best.items() for selection in (None, "other")}
    assert steered(last) == {(target, factor, 5, selection) for target, factor, selection in best_of_both}
    assert steered(last, "xcopa") == {(target, factor, None, selection) for target, factor, selection in best_of_both}
    assert all(cell.intervention is not None for cell in last), "the baselines were there from the start"
    assert len({cell.id for cell in cells}) == len(cells)
    assert [search.rung(cells[-1].task), search.rung(second[0].task)] == [None, 2]


def test_a_rung_can_be_recomputed(catalog: Catalog) -> None:
    search, cells = halving(), list(planned(catalog, **CHANGES))
    lss = qualities(cells, {"fr": 2.0, "tr": 2.0})
    first = search.next(cells, lss)
    assert [cell.id for cell in search.next(reversed(cells), lss)] != []
    assert {cell.id for cell in search.next(reversed(cells), lss)} == {cell.id for cell in first}


def test_a_factor_that_lacks_a_cell_is_behind_the_others(catalog: Catalog) -> None:
    changes: dict[str, Any] = {**CHANGES, "tasks": [{**TASKS[0], "languages": ["en", "tr"]}, TASKS[1]]}
    search, cells = halving(**changes), list(planned(catalog, **changes))
    lss = qualities(cells, {"fr": 5.0, "tr": 5.0})
    failed = next(
        cell
        for cell in cells
        if cell.intervention is not None
        and cell.intervention.factor == 5.0
        and cell.intervention.languages == ("fr",)
        and cell.task.data_language == "tr"
    )
    del lss[failed.id]
    kept = {(target, factor) for target, factor, *_ in steered(search.next(cells, lss))}
    assert kept == {("fr", 2.0), ("fr", 3.0), ("fr", 4.0), ("tr", 3.0), ("tr", 4.0), ("tr", 5.0)}


def test_another_metric_decides_on_the_tasks_that_have_it(catalog: Catalog) -> None:
    tasks: list[dict[str, Any]] = [TASKS[0], {**TASKS[1], "limit": 5}]
    changes = {**CHANGES, "tasks": tasks, "search": {**CHANGES["search"], "metric": "accuracy"}}
    search, cells = halving(**changes), list(planned(catalog, **changes))
    assert steered(cells) == set()
    assert steered(cells, "xcopa") == {(target, factor, 1, None) for target in ("fr", "tr") for factor in range(1, 6)}
    while further := search.next(cells, qualities(cells, {"fr": 4.0, "tr": 1.0})):
        cells += further
    best = {("fr", 4.0, 5, "other"), ("fr", 4.0, 5, None), ("tr", 1.0, 5, "other"), ("tr", 1.0, 5, None)}
    for task in ("lss", "xcopa"):
        assert {line for line in steered(cells, task) if line[2] == 5} == best, task
    with pytest.raises(InvalidRequest, match=f"would have {len(cells)} cells"):
        planned(catalog, **changes, max_cells=len(cells) - 1)


def test_of_a_metric_that_should_be_small_the_smaller_value_is_better() -> None:
    search = halving(tasks=[*TASKS, GENERATION], search={**CHANGES["search"], "metric": "repetition"})
    metrics = {metric.name: metric for metric in task_for("generation").metrics}
    assert search.quality(metrics["repetition"], 0.25) == -0.25
    assert search.quality(metrics["in_target_language"], 0.25) == 0.25


def test_the_language_identifier_stays_with_the_cells_that_depend_on_it(catalog: Catalog) -> None:
    assert catalog.data is not None
    (catalog.data / "prompts").mkdir()
    (catalog.data / "prompts" / "en.txt").write_text("One\nTwo\nThree\n", encoding="utf-8")
    changes: dict[str, Any] = {
        "tasks": [{"name": "generation", "languages": ["en"], "data": "prompts"}],
        "search": {**CHANGES["search"], "metric": "in_target_language"},
    }
    ids = []
    for when in (None, "drift"):
        interventions = {**CHANGES["interventions"], "controls": ["zero"], "when": when}
        cells = list(planned(catalog, **changes, interventions=interventions))
        search = halving(**changes, interventions=interventions)
        while further := search.next(cells, qualities(cells, {"fr": 5.0, "tr": 1.0})):
            cells += further
        assert {cell.identifier is not None for cell in cells if cell.intervention is not None} == {when is not None}
        assert {cell.identifier for cell in cells if cell.intervention is None} == {None}
        assert {cell.task.limit for cell in cells} == {1, 2, 4, None}
        ids.append({cell.id for cell in cells if cell.intervention is None})
    assert ids[0] == ids[1]


def test_a_factor_without_any_lss_is_dropped(catalog: Catalog) -> None:
    search, cells = halving(), list(planned(catalog, **CHANGES))
    alive = {cell.id: 0.5 for cell in cells if cell.intervention and cell.intervention.factor == 5}
    assert {factor for _, factor, _, _ in steered(search.next(cells, alive))} == {5}
    assert search.next(cells, {}) == []


def test_the_number_of_cells_is_known_in_advance(catalog: Catalog) -> None:
    search, cells = halving(), list(planned(catalog, **CHANGES))
    while further := search.next(cells, qualities(cells, {"fr": 1.0, "tr": 1.0})):
        cells += further
    with pytest.raises(InvalidRequest, match=f"would have {len(cells)} cells"):
        planned(catalog, **CHANGES, max_cells=len(cells) - 1)


def test_every_choice_of_tokens_has_a_search_of_its_own(catalog: Catalog) -> None:
    interventions = {**CHANGES["interventions"], "languages": ["fr"], "tokens": [None, {"start": 1}]}
    changes = {**CHANGES, "interventions": interventions}
    search, cells = halving(**changes), list(planned(catalog, **changes))
    while further := search.next(cells, qualities(cells, {"fr": 3.0}) | _better_from_the_second_token(cells)):
        cells += further
    best = {
        (None if cell.intervention.tokens is None else cell.intervention.tokens.label, cell.intervention.factor)
        for cell in cells
        if cell.intervention is not None and cell.task.name == "xcopa"
    }
    assert best == {(None, 3.0), ("start=1", 5.0)}
    with pytest.raises(InvalidRequest, match=f"would have {len(cells)} cells"):
        planned(catalog, **changes, max_cells=len(cells) - 1)


def _better_from_the_second_token(cells: Sequence[Cell]) -> dict[str, float]:
    """Return an LSS that grows with the factor, for the cells that leave the first token alone."""
    steered = [cell for cell in cells if cell.intervention is not None and cell.intervention.tokens is not None]
    return {cell.id: cell.intervention.factor for cell in steered if cell.intervention is not None}


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"search": "quick"}, "search", "must be grid, halving"),
        ({"search": {"method": "halving", "items": 0}}, "search.items", "greater than or equal to 1"),
        ({"search": {"method": "halving", "items": 1, "keep": 5}}, "search.keep", "number of factors, which is 5"),
        ({"search": {"method": "halving", "items": 5}}, "search.items", "limit of every task with lss, here 5"),
        ({"search": "halving", "tasks": TASKS[1:]}, "search", "add a task lss"),
        ({"search": "halving", "tasks": [*TASKS, {**TASKS[0], "name": "lsss"}]}, "tasks.2.name", "unknown task 'lsss'"),
        (
            {"search": {"method": "halving", "metric": "target_lpr"}},
            "search.metric",
            "no task of the sweep has the metric target_lpr; they have accuracy, lss",
        ),
        (
            {"search": {"method": "halving", "metric": "length"}, "tasks": [*TASKS, GENERATION]},
            "search.metric",
            "neither direction of length is better",
        ),
    ],
)
def test_an_unsuitable_search_is_rejected_with_the_field(
    catalog: Catalog, change: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        planned(catalog, **{**CHANGES, **change})
    assert caught.value.param == param


def test_the_source_is_that_of_each_baseline_in_every_rung(catalog: Catalog) -> None:
    """A factor is chosen by its mean over data languages, although their interventions differ in the source."""
    changes = {
        **CHANGES,
        "neurons": {"method": "lape", "corpus": "small", "languages": ["en", "fr", "tr", "zh"]},
        "interventions": {**CHANGES["interventions"], "languages": ["fr"], "source": {"op": "set", "factor": 0}},
        "tasks": TASKS[:1],
    }
    search, cells = halving(**changes), list(planned(catalog, **changes))
    best = {"en": {5.0: 1.0, 1.0: 0.6}, "zh": {4.0: 0.7, 1.0: 0.6}}  # by data language: 1 is the best in the mean

    def measured() -> dict[str, float]:
        return {
            cell.id: best[cell.task.data_language].get(cell.intervention.factor, 0.0)
            for cell in cells
            if cell.intervention is not None
        }

    while further := search.next(cells, measured()):
        cells += further
    edited = [(cell, cell.intervention) for cell in cells if cell.intervention is not None]
    assert {(cell.task.data_language, each.source and each.source.language) for cell, each in edited} == {
        ("en", "en"),
        ("zh", "zh"),
    }
    last = [(cell.task.data_language, each.factor, each.selection) for cell, each in edited if cell.task.limit == 5]
    assert Counter(last) == Counter((code, 1.0, selection) for code in ("en", "zh") for selection in (None, "other"))
    assert len({cell.id for cell in cells}) == len(cells)
