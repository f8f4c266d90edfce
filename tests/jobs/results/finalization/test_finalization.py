"""From a spec to its summary, without an engine: finalization, also after failures and damaged files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.planning.catalog import Catalog
from jobs.results.cell_table import CellTable
from jobs.results.failures import find_errors
from jobs.results.finalization.assembly import READ_AHEAD
from jobs.results.schema import SUMMARY
from jobs.results.summary import SummaryBuilder, summary_csv, summary_json
from jobs.results.writer import Published, Results
from jobs.store.records import CellRecord, SweepRecord
from jobs.store.transitions import SweepState
from tests.jobs.results.sweep_runner import SweepRunner, computed_sweep


@pytest.fixture
def runner(tmp_path: Path, catalog: Catalog) -> SweepRunner:
    return SweepRunner(tmp_path / "results", catalog)


def test_a_sweep_ends_with_its_samples_and_its_summary(runner: SweepRunner) -> None:
    sweep = runner.submit(interventions={"op": "scale", "factors": [2, 5], "controls": ["random"]})
    runner.compute()
    ended = runner.finalize(sweep.id)
    assert (ended.state, ended.error) == (SweepState.COMPLETED, None)
    samples = pq.read_table(runner.results.samples_file(runner.store.get_sweep(sweep.id)).open())
    assert samples["cell_id"].unique().to_pylist() == [cell.id for cell in runner.store.list_cells(sweep.id).data]
    summary = summary_json(runner.results, runner.store.get_sweep(sweep.id))
    assert json.loads(json.dumps(summary)) == summary
    shifted = [row for row in summary["rows"] if row["metric"] == "lss"]
    assert {(row["selection"], row["value"]) for row in shifted} == {(None, 1.0), ("random", 0.0)}
    assert {row["left_out"] for row in shifted if row["data_language"] == "zh"} == {0}
    assert {row["left_out"] for row in shifted if (row["data_language"], row["target_language"]) == ("en", "fr")} == {2}
    best = {(row["target_language"], row["factor"], row["languages"]) for row in summary["best_factors"]}
    assert best == {("en", 2.0, 1), ("fr", 2.0, 2), ("tr", 2.0, 2)}
    (baseline,) = (row for row in summary["rows"] if row["op"] is None)
    assert (baseline["task"], baseline["n"]) == ("xcopa", 3)


def test_cells_are_read_several_at_a_time_and_few_ahead(runner: SweepRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = runner.submit(interventions={"op": "scale", "factors": [number / 2 for number in range(1, 8)]})
    assert runner.compute() > 3 * READ_AHEAD
    read_cell, add = Results.read_cell, SummaryBuilder.add
    lock, several = Lock(), Event()
    begun = evaluated = most_ahead = 0

    def reading(results: Results, record: CellRecord) -> CellTable:
        nonlocal begun, most_ahead
        with lock:
            begun += 1
            most_ahead = max(most_ahead, begun - evaluated)
            if begun - evaluated > 1:
                several.set()
        assert several.wait(10), "one cell is read after the other"
        return read_cell(results, record)

    def adding(builder: SummaryBuilder, table: CellTable) -> None:
        nonlocal evaluated
        add(builder, table)
        with lock:
            evaluated += 1

    monkeypatch.setattr(Results, "read_cell", reading)
    monkeypatch.setattr(SummaryBuilder, "add", adding)
    assert runner.finalize(sweep.id).state is SweepState.COMPLETED
    assert most_ahead <= READ_AHEAD + 1


def test_the_summary_has_its_columns_in_parquet_and_csv(runner: SweepRunner) -> None:
    sweep = runner.submit()
    runner.compute()
    runner.finalize(sweep.id)
    expected = (
        "model task metric data_language target_language selection op factor layers n value ci_low ci_high baseline "
        "delta p_value patch left_out failed delta_ci_low delta_ci_high neurons statistic weights note p_holm effect "
        "control_language rung mode p_mid signature higher_is_better no_effect spanned_joins mde method noise "
        "random_seed task_options neuron_layer neuron_index adapter tokens when part"
    )
    schema = pq.read_schema(runner.results.summary_file(runner.store.get_sweep(sweep.id)).open())
    assert " ".join(schema.names) == expected
    assert schema.remove_metadata() == SUMMARY
    assert json.loads(schema.metadata[b"ampsweep.spec"]) == sweep.spec
    rows = list(csv.DictReader(io.StringIO(summary_csv(runner.results, runner.store.get_sweep(sweep.id)))))
    assert " ".join(rows[0]) == expected
    assert len(rows) == len(summary_json(runner.results, runner.store.get_sweep(sweep.id))["rows"])


def test_the_summary_has_rows_and_best_factors_for_every_choice_of_tokens(runner: SweepRunner) -> None:
    tokens = [None, {"start": 1}]
    sweep = runner.submit(
        interventions={"languages": ["fr"], "op": "scale", "factors": [2, 5], "tokens": tokens, "controls": ["zero"]}
    )
    runner.compute()
    runner.finalize(sweep.id)
    summary = summary_json(runner.results, runner.store.get_sweep(sweep.id))
    rows = {
        (row["tokens"], row["selection"], row["factor"])
        for row in summary["rows"]
        if row["metric"] == "lss" and row["data_language"] == "en"
    }
    each = {(None, 2.0), (None, 5.0), ("zero", 0.0)}
    assert rows == {(label, *row) for label in (None, "start=1") for row in each}
    best = {(row["tokens"], row["when"], row["part"], row["factor"]) for row in summary["best_factors"]}
    assert best == {(None, None, None, 2.0), ("start=1", None, None, 2.0)}
    samples = pq.read_table(runner.results.samples_file(runner.store.get_sweep(sweep.id)).open())
    assert set(samples["tokens"].to_pylist()) == {None, "start=1"}


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_damaged_cell_is_computed_again_before_anything_is_published(runner: SweepRunner, damage: str) -> None:
    sweep = runner.submit()
    runner.compute()
    record = runner.store.list_cells(sweep.id).data[1]
    assert record.file is not None
    path = runner.folder / "cells" / record.file
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert runner.finalize(sweep.id).state is SweepState.IN_PROGRESS
    assert not list((runner.folder / "sweeps").rglob("*.*"))
    assert runner.compute() == 1
    assert runner.finalize(sweep.id).state is SweepState.COMPLETED
    assert runner.store.list_cells(sweep.id).data[1].file != record.file


def test_a_reused_cell_that_is_lost_is_computed_again(runner: SweepRunner) -> None:
    runner.finalize(computed_sweep(runner).id)
    again = runner.submit()
    assert again.state is SweepState.FINALIZING
    for path in (runner.folder / "cells").iterdir():
        path.unlink()
    assert runner.finalize(again.id).state is SweepState.IN_PROGRESS
    assert runner.compute() == again.request_counts.total
    assert runner.finalize(again.id).state is SweepState.COMPLETED


def test_a_reused_sweep_gives_the_same_rows(runner: SweepRunner) -> None:
    first, second = computed_sweep(runner), runner.submit()
    for sweep in (first, second):
        runner.finalize(sweep.id)
    rows = [summary_json(runner.results, runner.store.get_sweep(sweep.id))["rows"] for sweep in (first, second)]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 0


def test_a_sweep_with_failed_cells_is_completed_and_names_them(runner: SweepRunner) -> None:
    sweep = runner.submit()
    runner.compute(fails=lambda cell: cell.task.name == "xcopa")
    ended = runner.finalize(sweep.id)
    assert ended.state is SweepState.COMPLETED
    assert ended.request_counts.failed > 0
    file = runner.results.samples_file(runner.store.get_sweep(sweep.id))
    failed = json.loads(pq.read_schema(file.open()).metadata[b"ampsweep.failed_cells"])
    assert len(failed) == ended.request_counts.failed
    assert set(failed.values()) == {"the engine died"}
    assert set(pq.read_table(file.open())["task"].to_pylist()) == {"lss"}


def recorded_errors(runner: SweepRunner, sweep: SweepRecord) -> list[dict[str, Any]]:
    """Return the errors in the metadata of a sweep's two files, which must be the same."""
    files = (runner.results.samples_file(sweep), runner.results.summary_file(sweep))
    samples, summary = (json.loads(pq.read_schema(file.open()).metadata[b"ampsweep.errors"]) for file in files)
    assert samples == summary
    errors: list[dict[str, Any]] = samples
    return errors


@pytest.mark.parametrize("failing", ["none", "xcopa", "all"])
def test_both_files_record_the_errors_that_the_api_reports(runner: SweepRunner, failing: str) -> None:
    sweep = runner.submit()
    runner.compute(fails=lambda cell: failing in ("all", cell.task.name))
    ended = runner.finalize(sweep.id)
    errors = recorded_errors(runner, ended)
    (reported,) = find_errors(runner.store, [ended])
    assert errors == [asdict(error) for error in reported]
    codes = {"none": [], "xcopa": ["completed_with_failures"], "all": ["sweep_failed"]}
    assert [error["code"] for error in errors] == codes[failing]
    if errors:
        assert errors[0]["failed_cells"] == ended.request_counts.failed
        assert errors[0]["first_reason"] == "the engine died"


def test_a_sweep_whose_cells_all_failed_has_failed(runner: SweepRunner) -> None:
    sweep = runner.submit()
    runner.compute(fails=lambda cell: True)
    ended = runner.finalize(sweep.id)
    assert ended.state is SweepState.FAILED
    assert ended.error is not None
    assert "the engine died" in ended.error


def test_finalizing_twice_or_too_early_changes_nothing(runner: SweepRunner) -> None:
    sweep = runner.submit()
    assert runner.finalize(sweep.id).state is SweepState.IN_PROGRESS
    runner.compute()
    ended = runner.finalize(sweep.id)
    assert runner.finalize(sweep.id) == ended
    assert runner.store.lease_sweep(sweep.id, "w", ttl=30) is None


def test_a_cell_that_is_reset_during_finalization_postpones_the_end(
    runner: SweepRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = computed_sweep(runner)
    publish = runner.results.write_summary

    def interrupted(record: SweepRecord, rows: Any, **options: Any) -> Published:
        runner.store.reset_cell(runner.store.list_cells(sweep.id).data[0].id, "lost")
        return publish(record, rows, **options)

    monkeypatch.setattr(runner.results, "write_summary", interrupted)
    assert runner.finalize(sweep.id).state is SweepState.IN_PROGRESS
    monkeypatch.undo()
    runner.compute()
    assert runner.finalize(sweep.id).state is SweepState.COMPLETED


def test_the_samples_metadata_say_where_the_answers_come_from(runner: SweepRunner) -> None:
    sweep = computed_sweep(runner)
    runner.finalize(sweep.id)
    metadata = pq.read_schema(runner.results.samples_file(runner.store.get_sweep(sweep.id)).open()).metadata
    sources = json.loads(metadata[b"ampsweep.sources"])
    cell = runner.store.list_cells(sweep.id).data[0].cell
    assert sources["models"] == [{"name": "tiny", "source": None, "sha256": cell.model_hash}]
    assert len(sources["neurons"]) == 1
    assert {(source["task"], source["language"]) for source in sources["data"]} == {
        ("lss", "en"),
        ("lss", "zh"),
        ("xcopa", "it"),
    }
    assert cell.task.data_hash in {source["sha256"] for source in sources["data"]}


def test_the_samples_metadata_say_what_was_done_to_the_data(runner: SweepRunner) -> None:
    assert runner.catalog.data is not None
    path = runner.catalog.data / "xcopa" / "test.it.jsonl"
    path.write_text(path.read_text("utf-8").replace('"idx": 2', '"idx": 0'), encoding="utf-8")
    ended = runner.finalize(computed_sweep(runner).id)
    metadata = pq.read_schema(runner.results.samples_file(ended).open()).metadata
    repairs = {each["language"]: each.get("repairs") for each in json.loads(metadata[b"ampsweep.sources"])["data"]}
    assert repairs == {"en": None, "zh": None, "it": {"repeated_ids": 1}}
    warnings = json.loads(metadata[b"ampsweep.warnings"])
    assert any(warning.startswith("tasks.1: xcopa it: 1 of the ids repeat an earlier one") for warning in warnings)
