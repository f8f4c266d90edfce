"""Does `search: halving` find the grid's best factors, and for how many of its requests? On the atlas, seed by seed.

A seed draws the facts. Each sweep is run to its end, the grid and the search, in one house: cells that both need are
computed once, but count as requests of both.

Usage: python -m benchmarks.halving [--seeds 10] [--engine vllm]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from ampsweep.cli.house import House, catalog_of
from ampsweep.settings import read_settings
from jobs.plan import plan
from jobs.spec import parse_spec
from jobs.store.records import SweepRecord
from jobs.store.states import SWEEP_ENDED, SweepState
from jobs.summary import summary_json
from worker.engines import EngineSpec
from worker.local_pool import LocalPool

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


def main() -> None:
    """Run the sweeps, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--engine", default="vllm")
    options = parser.parse_args()
    catalog = catalog_of(read_settings(engine=options.engine))
    with tempfile.TemporaryDirectory() as folder, closing(House.open(Path(folder), catalog)) as house:
        table = asyncio.run(compare(house, options.seeds))
    print(table)


async def compare(house: House, seeds: int) -> str:
    """Return, for each seed, both answers and what they took, as Markdown."""
    pairs = [(send(house, seed, "grid"), send(house, seed, HALVING)) for seed in range(seeds)]
    await run(house, [sweep for pair in pairs for sweep in pair])
    lines = ["| seed | best by the grid | best by halving | requests | share |", "|---|---|---|---|---|"]
    same = asked = of = 0
    for seed, (grid, search) in enumerate(pairs):
        full, few = (house.store.get_sweep(sweep.id).samples for sweep in (grid, search))
        best, found = (best_of(house, sweep) for sweep in (grid, search))
        same, asked, of = same + (best == found), asked + few, of + full
        lines.append(f"| {seed} | {shown(best)} | {shown(found)} | {few:,} of {full:,} | {few / full:.1%} |")
    lines.append(f"| all | | the same in {same} of {seeds} | {asked:,} of {of:,} | {asked / of:.1%} |")
    return "\n".join(lines)


def send(house: House, seed: int, search: object) -> SweepRecord:
    """Enter a sweep."""
    spec = parse_spec({**SPEC, "name": f"seed {seed}", "seed": seed, "search": search})
    cells = plan(spec, house.catalog, house.neuron_sets)
    return house.store.create_sweep(name=spec.name, spec=spec.to_dict(), cells=cells)


async def run(house: House, sweeps: list[SweepRecord]) -> None:
    """Compute until all have ended; RuntimeError where one did not complete."""
    catalog = house.catalog
    folder = catalog.model_path("atlas").resolve()
    engine = EngineSpec(model="atlas", folder=folder, kind=catalog.engine, dtype=catalog.dtype)
    changed = asyncio.Event()
    pool = LocalPool([engine], house.setup)
    dispatcher = house.dispatcher(pool, changed.set)
    try:
        await pool.start()
        await pool.ready()
        dispatcher.start()
        while not all(house.store.get_sweep(sweep.id).state in SWEEP_ENDED for sweep in sweeps):
            changed.clear()
            await changed.wait()
    finally:
        await dispatcher.stop()
        await pool.stop()
    for sweep in sweeps:
        ended = house.store.get_sweep(sweep.id)
        if ended.state is not SweepState.COMPLETED or ended.request_counts.failed:
            raise RuntimeError(f"{ended.name}: {ended.state.value}, {ended.request_counts}, {ended.error}")


def best_of(house: House, sweep: SweepRecord) -> dict[str, float]:
    """Return the best factor of each target language."""
    rows = summary_json(house.results, sweep.id)["best_factors"]
    return {row["target_language"]: row["factor"] for row in rows}


def shown(best: dict[str, float]) -> str:
    """Return the answer as it stands in the table."""
    return ", ".join(f"{target} {factor:g}" for target, factor in sorted(best.items()))


if __name__ == "__main__":
    main()
