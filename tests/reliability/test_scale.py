"""Ten thousand cells in one sweep or in a thousand: the dispatcher keeps up, and memory does not grow."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from api.http.change_notifier import ChangeNotifier
from jobs.cell import Cell
from jobs.clock import SystemClock
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from jobs.store.records import CellFile, SweepFiles
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import SWEEP_ENDED
from tests.jobs.cluster import a_cell
from tests.worker.installation import SPEC, Installation
from tests.worker.stub_pool import StubPool
from worker.dispatcher import Dispatcher

pytestmark = [pytest.mark.anyio, pytest.mark.reliability]

CELLS = 10_000
FILES = SweepFiles(samples="s", summary="s")


class QuickPool(StubPool):
    """Computes at once."""

    async def run_cell(self, cell: Cell, epoch: int, *, exclusive: bool = False) -> CellFile:
        return CellFile(name=f"{cell.id}.{epoch}.parquet", rows=4, sha256="s")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_sweep_of_ten_thousand_cells_is_planned_and_stored_in_two_seconds(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation = Installation.build(tmp_path / "installation", store=store)
    sweep_spec = {
        "op": "scale",
        "languages": ["fr", "tr"],
        "factors": [round(0.01 * number, 2) for number in range(1, 626)],
        "layers": "each",  # of four
        "controls": ["random"],
    }
    wanted = {**SPEC, "interventions": sweep_spec}
    begun, busy = time.perf_counter(), time.process_time()
    spec = parse_spec(wanted)
    cells = plan(spec, installation.catalog, installation.neuron_sets)
    sweep = store.create_sweep(name=spec.name, spec=spec.to_dict(), cells=cells)
    took, busy = time.perf_counter() - begun, time.process_time() - busy
    print(f"{len(cells)} cells planned and stored in {took:.2f} s, {busy:.2f} s of CPU")
    assert sweep.request_counts.total == len(cells) == 10_002
    assert busy < 2
    store.close()


@pytest.mark.parametrize("sweeps", [1, 1000])
async def test_the_dispatcher_keeps_up(tmp_path: Path, sweeps: int) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    each = CELLS // sweeps
    ids = [
        store.create_sweep(
            name="n",
            spec={"n": index},
            cells=[a_cell(number) for number in range(index * each, (index + 1) * each)],
            owner=f"{index % 7}",
        ).id
        for index in range(sweeps)
    ]
    notifier = ChangeNotifier()
    dispatcher = Dispatcher(
        store=store,
        pool=QuickPool(64),
        finalize=lambda lease: store.finish_sweep(lease, files=FILES),
        owner="me",
        on_change=notifier.notify,
    )

    def done() -> int:
        return sum(store.get_sweep(sweep_id).request_counts.completed for sweep_id in (ids[0], ids[-1]))

    begun, busy = time.perf_counter(), time.process_time()
    dispatcher.start()
    middle = resident_mib(), descriptors()
    while (
        not all(store.get_sweep(sweep_id).state in SWEEP_ENDED for sweep_id in (ids[0], ids[-1])) or store.finalizing()
    ):
        await asyncio.sleep(0.2)
        if not middle[0] and done():
            middle = resident_mib(), descriptors()
    took, busy = time.perf_counter() - begun, time.process_time() - busy
    await dispatcher.stop()
    grown = resident_mib() - middle[0], descriptors() - middle[1]
    print(f"{sweeps} sweeps, {CELLS} cells: {CELLS / took:.0f} a second, {CELLS / busy:.0f} a second of CPU")
    print(f"memory grew by {grown[0]:.0f} MiB, open descriptors by {grown[1]}")
    assert CELLS / busy > 300
    assert grown[0] < 100
    assert grown[1] < 10
    for sweep_id in (ids[0], ids[-1]):
        assert store.get_sweep(sweep_id).request_counts.completed == each
    store.close()
