"""From a spec to its summary, without an engine: the end of a sweep, also where something broke on the way."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.results.assembly import Assembled, assemble
from jobs.results.finalization import finalize
from jobs.results.schema import SUMMARY
from jobs.results.summary import summary_csv, summary_json
from jobs.results.writer import Published, Results
from jobs.spec import parse_spec
from jobs.storage.local import LocalStorage
from jobs.store.records import CellOutcome, CellRecord, SweepRecord
from jobs.store.transitions import SweepState
from jobs.tasks.loading import load_items
from jobs.tasks.registry import task_for
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import ManualClock, completed, ended, quick_sql_store, raw_spec

TASKS = [{"name": "lss", "languages": ["en", "zh"]}, {"name": "xcopa", "languages": ["it"]}]


class Bench:
    """A store, results and a worker that answers: the object of French is the likelier the larger the factor."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.catalog = catalog
        self.folder = folder
        self.results = Results(LocalStorage(folder))
        self.store = quick_sql_store(folder.with_name("store"), ManualClock())

    def send(self, **changes: Any) -> SweepRecord:
        spec = parse_spec(raw_spec(**{"tasks": TASKS, **changes}))
        planned = plan(spec, self.catalog, NeuronSets(Path("nowhere")))
        return self.store.create_sweep(
            name=spec.name, spec=spec.to_dict(), cells=planned.cells, warnings=planned.warnings
        )

    def work(self, fails: Callable[[Cell], bool] = lambda cell: False) -> int:
        """Compute all that is pending; return how many cells that were."""
        leases = self.store.lease_cells("w", models=["tiny"], limit=10_000, ttl=9)
        for lease in leases:
            if fails(lease.cell):
                self.store.report([ended(lease, CellOutcome.REJECTED, "the engine died")])
                continue
            task, found = task_for(lease.cell.task.name), load_items(lease.cell, self.catalog)
            samples = [
                task.sample(item, [_answer(lease.cell, call, at) for at, call in enumerate(item.calls)])  # type: ignore[arg-type]
                for item in found.items
            ]
            file = self.results.write_cell(
                lease.cell,
                epoch=lease.epoch,
                samples=samples,
                left_out=found.left_out,
                neurons=5,
                versions={"engine": "1"},
            )
            self.store.report([completed(lease, file)])
        return len(leases)

    def assemble(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        return assemble(self.results, sweep, cells, epoch)

    def end(self, sweep_id: str) -> SweepRecord:
        """Finalize a sweep that is to be finalized."""
        lease = self.store.lease_sweep(sweep_id, "w", ttl=9)
        return self.store.get_sweep(sweep_id) if lease is None else finalize(self.store, lease, self.assemble)


def _answer(cell: Cell, call: ScoreCall, at: int) -> Answer:
    steering = cell.intervention
    gain = steering.factor if steering is not None and steering.selection is None and at == 0 else 0.0
    return Answer(token_ids=(1,), logprobs=(-10.0 - len(call.continuation) % 3 + gain,), prompt_tokens=3)


@pytest.fixture
def bench(tmp_path: Path, catalog: Catalog) -> Bench:
    return Bench(tmp_path / "results", catalog)


def test_a_sweep_ends_with_its_samples_and_its_summary(bench: Bench) -> None:
    sweep = bench.send(interventions={"op": "scale", "factors": [2, 5], "controls": ["random"]})
    bench.work()
    ended = bench.end(sweep.id)
    assert (ended.state, ended.error) == (SweepState.COMPLETED, None)
    samples = pq.read_table(bench.results.samples_file(bench.store.get_sweep(sweep.id)).open())
    assert samples["cell_id"].unique().to_pylist() == [cell.id for cell in bench.store.list_cells(sweep.id).data]
    summary = summary_json(bench.results, bench.store.get_sweep(sweep.id))
    assert json.loads(json.dumps(summary)) == summary
    shifted = [row for row in summary["rows"] if row["metric"] == "lss"]
    assert {(row["selection"], row["value"]) for row in shifted} == {(None, 1.0), ("random", 0.0)}
    assert {row["left_out"] for row in shifted if row["data_language"] == "zh"} == {0}
    assert {row["left_out"] for row in shifted if (row["data_language"], row["target_language"]) == ("en", "fr")} == {2}
    best = {(row["target_language"], row["factor"], row["languages"]) for row in summary["best_factors"]}
    assert best == {("en", 2.0, 1), ("fr", 2.0, 2), ("tr", 2.0, 2)}
    (baseline,) = (row for row in summary["rows"] if row["op"] is None)
    assert (baseline["task"], baseline["n"]) == ("xcopa", 3)


def test_the_summary_has_the_columns_promised_in_parquet_and_csv(bench: Bench) -> None:
    sweep = bench.send()
    bench.work()
    bench.end(sweep.id)
    promised = (
        "model task metric data_language target_language selection op factor layers n value ci_low ci_high baseline "
        "delta p_value patch left_out failed delta_ci_low delta_ci_high neurons statistic weights note p_holm effect "
        "control_language rung mode p_mid signature higher_is_better no_effect spanned_joins"
    )
    schema = pq.read_schema(bench.results.summary_file(bench.store.get_sweep(sweep.id)).open())
    assert " ".join(schema.names) == promised
    assert schema.remove_metadata() == SUMMARY
    assert json.loads(schema.metadata[b"ampsweep.spec"]) == sweep.spec
    rows = list(csv.DictReader(io.StringIO(summary_csv(bench.results, bench.store.get_sweep(sweep.id)))))
    assert " ".join(rows[0]) == promised
    assert len(rows) == len(summary_json(bench.results, bench.store.get_sweep(sweep.id))["rows"])


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_damaged_cell_is_computed_again_before_anything_is_published(bench: Bench, damage: str) -> None:
    sweep = bench.send()
    bench.work()
    record = bench.store.list_cells(sweep.id).data[1]
    assert record.file is not None
    path = bench.folder / "cells" / record.file
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert bench.end(sweep.id).state is SweepState.IN_PROGRESS
    assert not list((bench.folder / "sweeps").rglob("*.*"))
    assert bench.work() == 1
    assert bench.end(sweep.id).state is SweepState.COMPLETED
    assert bench.store.list_cells(sweep.id).data[1].file != record.file


def test_a_reused_cell_that_is_lost_is_computed_again(bench: Bench) -> None:
    bench.end(worked(bench).id)
    again = bench.send()
    assert again.state is SweepState.FINALIZING
    for path in (bench.folder / "cells").iterdir():
        path.unlink()
    assert bench.end(again.id).state is SweepState.IN_PROGRESS
    assert bench.work() == again.request_counts.total
    assert bench.end(again.id).state is SweepState.COMPLETED


def worked(bench: Bench) -> SweepRecord:
    sweep = bench.send()
    bench.work()
    return sweep


def test_a_reused_sweep_gives_the_same_rows(bench: Bench) -> None:
    first, second = worked(bench), bench.send()
    for sweep in (first, second):
        bench.end(sweep.id)
    rows = [summary_json(bench.results, bench.store.get_sweep(sweep.id))["rows"] for sweep in (first, second)]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 0


def test_failed_cells_are_named_and_the_sweep_is_completed_all_the_same(bench: Bench) -> None:
    sweep = bench.send()
    bench.work(fails=lambda cell: cell.task.name == "xcopa")
    ended = bench.end(sweep.id)
    assert ended.state is SweepState.COMPLETED
    assert ended.request_counts.failed > 0
    file = bench.results.samples_file(bench.store.get_sweep(sweep.id))
    failed = json.loads(pq.read_schema(file.open()).metadata[b"ampsweep.failed_cells"])
    assert len(failed) == ended.request_counts.failed
    assert set(failed.values()) == {"the engine died"}
    assert set(pq.read_table(file.open())["task"].to_pylist()) == {"lss"}


def test_a_sweep_whose_cells_all_failed_has_failed(bench: Bench) -> None:
    sweep = bench.send()
    bench.work(fails=lambda cell: True)
    ended = bench.end(sweep.id)
    assert ended.state is SweepState.FAILED
    assert ended.error is not None
    assert "the engine died" in ended.error


def test_finalizing_twice_or_too_early_changes_nothing(bench: Bench) -> None:
    sweep = bench.send()
    assert bench.end(sweep.id).state is SweepState.IN_PROGRESS
    bench.work()
    ended = bench.end(sweep.id)
    assert bench.end(sweep.id) == ended
    assert bench.store.lease_sweep(sweep.id, "w", ttl=30) is None


def test_a_cell_that_goes_back_to_work_meanwhile_puts_the_end_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = worked(bench)
    publish = bench.results.write_summary

    def interrupted(record: SweepRecord, rows: Any, **options: Any) -> Published:
        bench.store.reset_cell(bench.store.list_cells(sweep.id).data[0].id, "lost")
        return publish(record, rows, **options)

    monkeypatch.setattr(bench.results, "write_summary", interrupted)
    assert bench.end(sweep.id).state is SweepState.IN_PROGRESS
    monkeypatch.undo()
    bench.work()
    assert bench.end(sweep.id).state is SweepState.COMPLETED


SEARCHED: dict[str, Any] = {
    "interventions": {"op": "scale", "factors": [0, 0.5, 1, 2, 3], "controls": ["random"]},
    "tasks": [{"name": "lss", "languages": ["en", "zh"], "limit": 6}, TASKS[1]],
    "search": {"method": "halving", "items": 2, "keep": 1},
}


def to_the_end(bench: Bench, sweep: SweepRecord) -> list[int]:
    """Compute and finalize until the sweep has ended; return how many cells there were to compute each time."""
    computed = []
    while bench.store.get_sweep(sweep.id).state is not SweepState.COMPLETED:
        computed.append(bench.work())
        bench.end(sweep.id)
    return computed


def test_a_search_goes_on_rung_by_rung_and_ends_with_the_grids_best_factors(bench: Bench) -> None:
    sweep = bench.send(**SEARCHED)
    computed = to_the_end(bench, sweep)
    assert len(computed) == 3
    ended = bench.store.get_sweep(sweep.id)
    assert ended.request_counts.total == ended.request_counts.completed == sum(computed)
    grid = bench.send(**{**SEARCHED, "search": "grid"})
    to_the_end(bench, grid)
    found, expected = (
        summary_json(bench.results, bench.store.get_sweep(each.id))["best_factors"] for each in (sweep, grid)
    )
    assert found == expected
    assert {row["factor"] for row in found} == {0.5}
    assert sum(computed) < grid.request_counts.total


def test_rows_and_samples_of_a_search_say_which_rung_they_are_of(bench: Bench) -> None:
    sweep = bench.send(**SEARCHED)
    to_the_end(bench, sweep)
    rows = summary_json(bench.results, bench.store.get_sweep(sweep.id))["rows"]
    tried = {
        rung: {row["factor"] for row in rows if row["rung"] == rung and row["factor"] is not None} for rung in (1, 2)
    }
    assert tried == {1: {0, 0.5, 1, 2, 3}, 2: {0.5, 1, 2}}
    final = [row for row in rows if row["rung"] is None and row["factor"] is not None]
    assert {(row["factor"], row["selection"]) for row in final} == {(0.5, None), (0.5, "random")}
    assert {row["task"] for row in final} == {"lss", "xcopa"}
    samples = pq.read_table(bench.results.samples_file(bench.store.get_sweep(sweep.id)).open())
    by_rung = {
        row["rung"]: row["doc_id_count"]
        for row in samples.group_by("rung").aggregate([("doc_id", "count")]).to_pylist()
    }
    assert set(by_rung) == {1, 2, None}
    assert sum(by_rung.values()) == bench.store.get_sweep(sweep.id).samples


def test_a_search_goes_on_after_a_restart_between_rungs(bench: Bench, catalog: Catalog) -> None:
    sweep = bench.send(**SEARCHED)
    bench.work()
    assert bench.end(sweep.id).state is SweepState.IN_PROGRESS
    bench.store.close()
    later = Bench(bench.folder, catalog)
    assert later.end(sweep.id).state is SweepState.IN_PROGRESS
    to_the_end(later, sweep)
    assert later.store.get_sweep(sweep.id).request_counts.failed == 0


def test_a_searched_sweep_that_is_sent_again_is_computed_from_nothing_new(bench: Bench) -> None:
    first, second = bench.send(**SEARCHED), bench.send(**SEARCHED)
    to_the_end(bench, first)
    assert sum(to_the_end(bench, second)) == 0
    counts = bench.store.get_sweep(second.id).request_counts
    assert counts.total == bench.store.get_sweep(first.id).request_counts.total
    rows = [summary_json(bench.results, bench.store.get_sweep(each.id))["rows"] for each in (first, second)]
    assert rows[0] == rows[1]


def test_a_damaged_file_of_a_rung_is_computed_again_before_the_search_goes_on(bench: Bench) -> None:
    sweep = bench.send(**SEARCHED)
    bench.work()
    record = bench.store.list_cells(sweep.id).data[-1]
    assert record.file is not None
    (bench.folder / "cells" / record.file).unlink()
    total = sweep.request_counts.total
    assert bench.end(sweep.id).request_counts.total == total
    assert bench.work() == 1
    assert bench.end(sweep.id).request_counts.total > total


def test_the_samples_metadata_say_where_the_answers_come_from(bench: Bench) -> None:
    sweep = worked(bench)
    bench.end(sweep.id)
    metadata = pq.read_schema(bench.results.samples_file(bench.store.get_sweep(sweep.id)).open()).metadata
    sources = json.loads(metadata[b"ampsweep.sources"])
    cell = bench.store.list_cells(sweep.id).data[0].cell
    assert sources["models"] == [{"name": "tiny", "source": None, "sha256": cell.model_hash}]
    assert len(sources["neurons"]) == 1
    assert {(each["task"], each["language"]) for each in sources["data"]} == {
        ("lss", "en"),
        ("lss", "zh"),
        ("xcopa", "it"),
    }
    assert cell.task.data_hash in {each["sha256"] for each in sources["data"]}


def test_the_samples_metadata_say_what_was_done_to_the_data(bench: Bench) -> None:
    assert bench.catalog.data is not None
    path = bench.catalog.data / "xcopa" / "test.it.jsonl"
    path.write_text(path.read_text("utf-8").replace('"idx": 2', '"idx": 0'), encoding="utf-8")
    ended = bench.end(worked(bench).id)
    metadata = pq.read_schema(bench.results.samples_file(ended).open()).metadata
    repairs = {each["language"]: each.get("repairs") for each in json.loads(metadata[b"ampsweep.sources"])["data"]}
    assert repairs == {"en": None, "zh": None, "it": {"repeated_ids": 1}}
    warnings = json.loads(metadata[b"ampsweep.warnings"])
    assert any(warning.startswith("tasks.1: xcopa it: 1 of the ids repeat an earlier one") for warning in warnings)
