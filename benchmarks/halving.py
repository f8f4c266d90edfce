"""Compares `search: halving` with the full grid on the atlas: the best factors, and the number of requests.

Each seed draws other facts. The sweeps are planned, searched, stored and finalized by the product. Only the model is
queried differently: in large batches with PyTorch hooks (`examples.atlas.scoring`), each distinct question once.

Usage: python -m benchmarks.halving [--seeds 10] [--home FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from ampsweep.cli.server.catalog import catalog_of
from ampsweep.cli.server.runtime import Runtime
from ampsweep.cli.server.settings import read_settings
from ampsweep.domain.intervention import Intervention
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import Edits, resolve
from examples.atlas.scoring import Scorer
from jobs.planning.planner import plan
from jobs.results.finalization.assembly import assemble
from jobs.results.finalization.finalization import finalize
from jobs.results.summary import summary_json
from jobs.spec.sweep import parse_spec
from jobs.store.records import CellOutcome, CellReport, Lease, SweepRecord
from jobs.store.transitions import SWEEP_ENDED
from jobs.tasks.loading import load_items
from jobs.tasks.registry import task_for
from jobs.tasks.requests import Answer, ScoreCall
from worker.neuron_set_cache import NeuronSetCache

FACTORS = (-1, -0.5, -0.2, 0, 0.2, 0.5, 1, 2, 3, 5, 8, 12)
HALVING = {"method": "halving", "items": 4, "keep": 3}
SPEC: dict[str, Any] = {
    "model": "atlas",
    "neurons": {
        "method": "lape",
        "corpus": "atlas",
        "languages": ["en", "nl", "id", "ms", "vi", "ja", "zh", "fr", "pt", "ru", "et", "it", "ta", "th", "tr"],
        "top_rate": 0.05,
    },
    "interventions": {"languages": ["fr", "tr"], "op": "set", "factors": list(FACTORS)},
    "tasks": [{"name": "lss", "languages": ["en", "ru"], "limit": 96}],
}
Question = tuple[str, str, Intervention | None]
"""A context, its continuation, and the intervention."""


class BatchWorker:
    """Computes the cells of all sweeps of a runtime in large batches, and finalizes the sweeps."""

    def __init__(self, runtime: Runtime) -> None:
        """Load the model."""
        self._runtime = runtime
        self._folder = runtime.catalog.model_path("atlas")
        self._scorer = Scorer(self._folder)
        self._logprobs: dict[Question, float] = {}
        self._neurons: dict[str, NeuronSet] = {}

    async def work(self) -> None:
        """Compute all cells, including those of later rungs, and finalize the sweeps."""
        store = self._runtime.store
        while True:
            if leases := store.lease_cells("benchmark", models=["atlas"], limit=250, ttl=86_400.0):
                await self._score(leases)
                store.report([self._computed(lease) for lease in leases])
            elif not (waiting := store.finalizing()):
                return
            else:
                for sweep_id in waiting:
                    lease = store.lease_sweep(sweep_id, "benchmark", ttl=86_400.0)
                    assert lease is not None, "there is no other worker"
                    finalize(store, lease, partial(assemble, self._runtime.results))

    async def _score(self, leases: Iterable[Lease]) -> None:
        """Score the questions of these cells that have not been scored before."""
        questions: dict[Intervention | None, set[Question]] = defaultdict(set)
        neuron_set_ids: dict[Intervention, str] = {}
        for lease in leases:
            steering = lease.cell.intervention
            if steering is not None and lease.cell.neurons is not None:
                await self._load_neurons(lease)
                neuron_set_ids[steering] = lease.cell.neurons.id
            for item in load_items(lease.cell, self._runtime.catalog).items:
                questions[steering] |= {(*_score_call(call), steering) for call in item.calls} - self._logprobs.keys()
        for steering, unscored in questions.items():
            ordered = sorted(unscored, key=itemgetter(0, 1))
            tokens = [self._scorer.tokens(context, continuation) for context, continuation, _ in ordered]
            edits = None if steering is None else self._edits(steering, neuron_set_ids[steering])
            self._logprobs |= zip(ordered, self._scorer.score(tokens, edits).tolist(), strict=True)

    async def _load_neurons(self, lease: Lease) -> None:
        ref = lease.cell.neurons
        assert ref is not None
        if ref.id not in self._neurons:
            if ref.id not in {info.id for info in self._runtime.neuron_sets.infos()}:
                engine = TransformersEngine(self._folder)
                await NeuronSetCache(self._runtime.neuron_sets, engine=engine, catalog=self._runtime.catalog).load(ref)
            self._neurons[ref.id] = NeuronSet.load(self._runtime.neuron_sets.fetch(ref.id))

    def _edits(self, steering: Intervention, neurons: str) -> Edits:
        return resolve(steering, self._neurons[neurons])

    def _computed(self, lease: Lease) -> CellReport:
        cell = lease.cell
        steering, task = cell.intervention, task_for(cell.task.name)
        item_set = load_items(cell, self._runtime.catalog)
        samples = [
            task.sample(item, [self._answer((*_score_call(call), steering)) for call in item.calls])
            for item in item_set.items
        ]
        file = self._runtime.results.write_cell(
            cell,
            epoch=lease.epoch,
            samples=samples,
            left_out=item_set.left_out,
            neurons=len(self._edits(steering, cell.neurons.id).indices) if steering and cell.neurons else 0,
            versions={"engine": "PyTorch hooks"},
        )
        return CellReport(lease=lease, outcome=CellOutcome.COMPLETED, file=file)

    def _answer(self, question: Question) -> Answer:
        return Answer(token_ids=(0,), logprobs=(self._logprobs[question],), prompt_tokens=0)


def main() -> None:
    """Run the sweeps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--home", type=Path, help="a folder to keep the neuron set and the cells in")
    options = parser.parse_args()
    catalog = catalog_of(read_settings(engine="transformers"))
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Runtime.open(options.home or Path(folder), catalog)) as runtime,
    ):
        pairs = [(submit(runtime, seed, "grid"), submit(runtime, seed, HALVING)) for seed in range(options.seeds)]
        asyncio.run(BatchWorker(runtime).work())
        print(table(runtime, pairs))


def submit(runtime: Runtime, seed: int, search: object) -> SweepRecord:
    """Store a sweep."""
    spec = parse_spec({**SPEC, "name": f"seed {seed}", "seed": seed, "search": search})
    cells = plan(spec, runtime.catalog, runtime.neuron_sets)
    return runtime.store.create_sweep(name=spec.name, spec=spec.to_dict(), cells=cells)


def table(runtime: Runtime, pairs: list[tuple[SweepRecord, SweepRecord]]) -> str:
    """Return the best factors by both searches and their numbers of samples, by seed, as Markdown."""
    lines = ["| seed | best by the grid | best by halving | facts asked | share |", "|---|---|---|---|---|"]
    agreements = halving_samples = grid_samples = 0
    for seed, (grid, halving) in enumerate(pairs):
        full, reduced = (runtime.store.get_sweep(sweep.id) for sweep in (grid, halving))
        assert {full.state, reduced.state} <= SWEEP_ENDED
        grid_best, halving_best = (best_of(runtime, sweep) for sweep in (grid, halving))
        agreements += grid_best == halving_best
        halving_samples += reduced.samples
        grid_samples += full.samples
        share = reduced.samples / full.samples
        lines.append(
            f"| {seed} | {grid_best} | {halving_best} | {reduced.samples:,} of {full.samples:,} | {share:.1%} |"
        )
    lines.append(
        f"| all | | the same in {agreements} of {len(pairs)} | {halving_samples:,} of {grid_samples:,} | "
        f"{halving_samples / grid_samples:.1%} |"
    )
    return "\n".join(lines)


def best_of(runtime: Runtime, sweep: SweepRecord) -> str:
    """Return the best factor of each target language."""
    rows = summary_json(runtime.results, runtime.store.get_sweep(sweep.id))["best_factors"]
    return ", ".join(f"{row['target_language']} {row['factor']:g}" for row in rows)


def _score_call(call: object) -> tuple[str, str]:
    assert isinstance(call, ScoreCall), "lss makes score calls only"
    assert isinstance(call.context, str), "lss without chat has contexts of text"
    return call.context, call.continuation


if __name__ == "__main__":
    main()
