"""Finalization of sweeps that search: a rung is planned when the one before it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.planning.catalog import Catalog
from jobs.results.best_factors import best_factors
from jobs.results.summary import summary_json
from jobs.store.transitions import SweepState
from tests.jobs.results.sweep_runner import SEARCHED, TASKS, SweepRunner, run_to_completion


@pytest.fixture
def runner(tmp_path: Path, catalog: Catalog) -> SweepRunner:
    return SweepRunner(tmp_path / "results", catalog)


def test_a_search_runs_rung_by_rung_and_finds_the_best_factors_of_the_grid(runner: SweepRunner) -> None:
    sweep = runner.submit(**SEARCHED)
    computed = run_to_completion(runner, sweep)
    assert len(computed) == 3
    ended = runner.store.get_sweep(sweep.id)
    assert ended.request_counts.total == ended.request_counts.completed == sum(computed)
    grid = runner.submit(**{**SEARCHED, "search": "grid"})
    run_to_completion(runner, grid)
    best, expected = (
        summary_json(runner.results, runner.store.get_sweep(record.id))["best_factors"] for record in (sweep, grid)
    )
    assert [without_ties(row) for row in best] == [without_ties(row) for row in expected]
    assert {row["factor"] for row in best} == {0.5}
    assert [row["tied"] for row in best] == [[], []], "the search has dropped the factors that are as good"
    assert [row["tied"] for row in expected] == [[1.0, 2.0, 3.0]] * 2
    assert sum(computed) < grid.request_counts.total


def without_ties(best: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in best.items() if name not in ("tied", "decided_by")}


def test_a_search_by_another_metric_finds_the_best_factors_of_the_grid_by_that_metric(runner: SweepRunner) -> None:
    tasks = [SEARCHED["tasks"][0], {**TASKS[1], "limit": 6}]
    search = {**SEARCHED["search"], "metric": "accuracy"}
    sweep = runner.submit(**{**SEARCHED, "tasks": tasks, "search": search})
    run_to_completion(runner, sweep)
    grid = runner.submit(**{**SEARCHED, "tasks": tasks, "search": "grid"})
    run_to_completion(runner, grid)
    searched, full = (summary_json(runner.results, runner.store.get_sweep(record.id)) for record in (sweep, grid))
    assert {row["metric"] for row in searched["best_factors"]} == {"accuracy"}
    by_grid = best_factors(full["rows"], "accuracy")
    assert [without_ties(row) for row in searched["best_factors"]] == [without_ties(row) for row in by_grid]
    assert {row["task"] for row in searched["rows"] if row["rung"] is not None} == {"xcopa"}


def test_rows_and_samples_of_a_search_have_their_rung(runner: SweepRunner) -> None:
    sweep = runner.submit(**SEARCHED)
    run_to_completion(runner, sweep)
    rows = summary_json(runner.results, runner.store.get_sweep(sweep.id))["rows"]
    tried = {
        rung: {row["factor"] for row in rows if row["rung"] == rung and row["factor"] is not None} for rung in (1, 2)
    }
    assert tried == {1: {0, 0.5, 1, 2, 3}, 2: {0.5, 1, 2}}
    final = [row for row in rows if row["rung"] is None and row["factor"] is not None]
    assert {(row["factor"], row["selection"]) for row in final} == {(0.5, None), (0.5, "random")}
    assert {row["task"] for row in final} == {"lss", "xcopa"}
    samples = pq.read_table(runner.results.samples_file(runner.store.get_sweep(sweep.id)).open())
    by_rung = {
        row["rung"]: row["doc_id_count"]
        for row in samples.group_by("rung").aggregate([("doc_id", "count")]).to_pylist()
    }
    assert set(by_rung) == {1, 2, None}
    assert sum(by_rung.values()) == runner.store.get_sweep(sweep.id).samples


def test_a_search_continues_after_a_restart_between_rungs(runner: SweepRunner, catalog: Catalog) -> None:
    sweep = runner.submit(**SEARCHED)
    runner.compute()
    assert runner.finalize(sweep.id).state is SweepState.IN_PROGRESS
    runner.store.close()
    later = SweepRunner(runner.folder, catalog)
    assert later.finalize(sweep.id).state is SweepState.IN_PROGRESS
    run_to_completion(later, sweep)
    assert later.store.get_sweep(sweep.id).request_counts.failed == 0


def test_a_search_that_is_submitted_again_computes_no_cell(runner: SweepRunner) -> None:
    first, second = runner.submit(**SEARCHED), runner.submit(**SEARCHED)
    run_to_completion(runner, first)
    assert sum(run_to_completion(runner, second)) == 0
    counts = runner.store.get_sweep(second.id).request_counts
    assert counts.total == runner.store.get_sweep(first.id).request_counts.total
    rows = [summary_json(runner.results, runner.store.get_sweep(sweep.id))["rows"] for sweep in (first, second)]
    assert rows[0] == rows[1]


def test_a_damaged_file_of_a_rung_is_computed_again_before_the_search_continues(runner: SweepRunner) -> None:
    sweep = runner.submit(**SEARCHED)
    runner.compute()
    record = runner.store.list_cells(sweep.id).data[-1]
    assert record.file is not None
    (runner.folder / "cells" / record.file).unlink()
    total = sweep.request_counts.total
    assert runner.finalize(sweep.id).request_counts.total == total
    assert runner.compute() == 1
    assert runner.finalize(sweep.id).request_counts.total > total
