"""Measures how the steps of a sweep outside the model, such as its finalization, grow with its number of cells.

The sweep asks for facts of the atlas in twelve pairs of languages; its scores are drawn at random. Times are CPU time
of this process.

Usage: python -m benchmarks.finalization [--cells 1000 10000] [--items 50]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ampsweep.cli.server.catalog import catalog_of
from ampsweep.cli.server.runtime import Runtime
from ampsweep.cli.server.settings import read_settings
from jobs.planning.planner import plan
from jobs.results.finalization.assembly import assemble
from jobs.results.finalization.finalization import finalize
from jobs.results.summary import summary_json
from jobs.sample import Sample
from jobs.spec.sweep import parse_spec
from jobs.store.records import CellOutcome, CellReport, Lease

BASES, TARGETS = ["en", "et", "id"], ["fr", "ja", "ru", "tr"]
STEPS = ("plan", "submit", "lease, write and report", "finalize", "read the summary")


def main() -> None:
    """Measure a sweep of each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", type=int, nargs="+", default=[1000, 10_000], help="about this many cells, up to 24,000"
    )
    parser.add_argument("--items", type=int, default=50, help="samples of each cell")
    options = parser.parse_args()
    print(f"| cells | {' | '.join(f'{step}, ms a cell' for step in STEPS)} |\n|---|{'---|' * len(STEPS)}")
    for cells in options.cells:
        with tempfile.TemporaryDirectory() as home:
            count, seconds = measure(Path(home), cells=cells, items=options.items)
        print(f"| {count:,} | {' | '.join(f'{1000 * each / count:.2f}' for each in seconds)} |", flush=True)


def measure(home: Path, *, cells: int, items: int) -> tuple[int, list[float]]:
    """Run a sweep of about `cells` cells with `items` samples each.

    Returns:
        The number of cells, and the seconds of each of STEPS.
    """
    spec = parse_spec(spec_of(cells, items))
    with closing(Runtime.open(home, catalog_of(read_settings(engine="fake")))) as runtime:
        store, rng = runtime.store, random.Random(0)
        ends = [time.process_time()]
        planned = plan(spec, runtime.catalog, runtime.neuron_sets)
        ends.append(time.process_time())
        sweep = store.create_sweep(name=spec.name, spec=spec.to_dict(), cells=planned.cells)
        ends.append(time.process_time())
        while leases := store.lease_cells("benchmark", models=["atlas"], limit=250, ttl=86_400.0):
            store.report([computed(runtime, lease, items, rng) for lease in leases])
        ends.append(time.process_time())
        lease = store.lease_sweep(sweep.id, "benchmark", ttl=86_400.0)
        assert lease is not None, "there is no other worker"
        completed = finalize(store, lease, partial(assemble, runtime.results))
        ends.append(time.process_time())
        summary_json(runtime.results, completed)
        ends.append(time.process_time())
    return len(planned), [end - start for start, end in pairwise(ends)]


def spec_of(cells: int, items: int) -> dict[str, Any]:
    """Return the spec of a sweep of about `cells` cells: for each pair of languages, two for each factor."""
    factors = [round(0.001 * step, 3) for step in range(1, 1 + max(1, cells // (2 * len(BASES) * len(TARGETS))))]
    return {
        "name": "synthetic",
        "model": "atlas",
        "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", *TARGETS], "top_rate": 0.05},
        "interventions": {"languages": TARGETS, "op": "set", "factors": factors, "controls": ["random"]},
        "tasks": [{"name": "lss", "languages": BASES, "limit": items}],
    }


def computed(runtime: Runtime, lease: Lease, items: int, rng: random.Random) -> CellReport:
    """Store random scores as the samples of a leased cell."""
    samples = [
        Sample(
            doc_id=f"fact {index}",
            score=rng.gauss(0, 1),
            logprobs=(-1.0, -2.0),
            call_tokens=(1, 1),
            prompt_tokens=20,
            completion_tokens=2,
            spanned_join=False,
        )
        for index in range(items)
    ]
    file = runtime.results.write_cell(
        lease.cell, epoch=lease.epoch, samples=samples, left_out=0, neurons=13, versions={"engine": "random"}
    )
    return CellReport(lease=lease, outcome=CellOutcome.COMPLETED, file=file)


if __name__ == "__main__":
    main()
