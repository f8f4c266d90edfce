"""Runs sweeps without an engine, for tests of what their results become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.results.finalization.assembly import Assembled, assemble
from jobs.results.finalization.finalization import finalize
from jobs.results.writer import Results
from jobs.spec.sweep import parse_spec
from jobs.storage.local import LocalStorage
from jobs.store.records import CellOutcome, CellRecord, SweepRecord
from jobs.store.transitions import SweepState
from jobs.tasks.loading import load_items
from jobs.tasks.registry import task_for
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import ManualClock, completed, ended, quick_sql_store, raw_spec

TASKS = [{"name": "lss", "languages": ["en", "zh"]}, {"name": "xcopa", "languages": ["it"]}]


class SweepRunner:
    """A store, results and a worker without a model: the larger the factor, the likelier the first continuation."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.catalog = catalog
        self.folder = folder
        self.results = Results(LocalStorage(folder))
        self.store = quick_sql_store(folder.with_name("store"), ManualClock())

    def submit(self, **changes: Any) -> SweepRecord:
        spec = parse_spec(raw_spec(**{"tasks": TASKS, **changes}))
        planned = plan(spec, self.catalog, NeuronSets(Path("nowhere")))
        return self.store.create_sweep(
            name=spec.name, spec=spec.to_dict(), cells=planned.cells, warnings=planned.warnings
        )

    def compute(self, fails: Callable[[Cell], bool] = lambda cell: False) -> int:
        """Compute all pending cells; return their number."""
        leases = self.store.lease_cells("w", models=["tiny"], limit=10_000, ttl=9)
        reports = []
        for lease in leases:
            if fails(lease.cell):
                reports.append(ended(lease, CellOutcome.REJECTED, "the engine died"))
                continue
            task, loaded = task_for(lease.cell.task.name), load_items(lease.cell, self.catalog)
            samples = [
                task.sample(item, [_answer(lease.cell, call, index) for index, call in enumerate(item.calls)])  # type: ignore[arg-type]
                for item in loaded.items
            ]
            file = self.results.write_cell(
                lease.cell,
                epoch=lease.epoch,
                samples=samples,
                left_out=loaded.left_out,
                neurons=5,
                versions={"engine": "1"},
            )
            reports.append(completed(lease, file))
        self.store.report(reports)
        return len(leases)

    def assemble(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        return assemble(self.results, sweep, cells, epoch)

    def finalize(self, sweep_id: str) -> SweepRecord:
        """Finalize a sweep if it is ready."""
        lease = self.store.lease_sweep(sweep_id, "w", ttl=9)
        return self.store.get_sweep(sweep_id) if lease is None else finalize(self.store, lease, self.assemble)


def _answer(cell: Cell, call: ScoreCall, index: int) -> Answer:
    intervention = cell.intervention
    gain = intervention.factor if intervention and intervention.selection is None and index == 0 else 0.0
    return Answer(token_ids=(1,), logprobs=(-10.0 - len(call.continuation) % 3 + gain,), prompt_tokens=3)


def computed_sweep(runner: SweepRunner) -> SweepRecord:
    sweep = runner.submit()
    runner.compute()
    return sweep


SEARCHED: dict[str, Any] = {
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0, 0.5, 1, 2, 3], "controls": ["random"]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 6}, TASKS[1]],
    "search": {"method": "halving", "items": 2, "keep": 1},
}


def run_to_completion(runner: SweepRunner, sweep: SweepRecord) -> list[int]:
    """Compute and finalize until the sweep has ended; return how many cells there were to compute each time."""
    computed = []
    while runner.store.get_sweep(sweep.id).state is not SweepState.COMPLETED:
        computed.append(runner.compute())
        runner.finalize(sweep.id)
    return computed
