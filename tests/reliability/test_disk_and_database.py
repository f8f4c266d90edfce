"""A full or unmounted disk, a locked or moved database, a removed folder: work waits and continues by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.errors import Unavailable
from api.http.change_notifier import ChangeNotifier
from jobs.clock import SystemClock
from jobs.store.records import SweepRecord
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import SWEEP_ENDED, SweepState
from tests.worker.installation import Installation, until
from worker.dispatcher import Dispatcher

pytestmark = [pytest.mark.anyio, pytest.mark.reliability]


@asynccontextmanager
async def working(installation: Installation, notifier: ChangeNotifier, **engine: Any) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher as a server does."""
    async with installation.pool(cells_per_engine=2, **engine) as pool:
        dispatcher = installation.dispatcher(
            pool, on_change=notifier.notify, check_writable=installation.results.check_writable, poll=0.1
        )
        dispatcher.start()
        try:
            yield dispatcher
        finally:
            await dispatcher.stop()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of its own; the test is skipped where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until there is no room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


def all_is_well(installation: Installation, sweep: SweepRecord) -> None:
    record = installation.store.get_sweep(sweep.id)
    assert record.state is SweepState.COMPLETED
    assert (record.request_counts.completed, record.request_counts.failed) == (record.request_counts.total, 0)
    assert {cell.attempts for cell in installation.store.list_cells(sweep.id, limit=1000).data} == {1}
    installation.results.check_sweep(record)
    table = pq.read_table(installation.results.samples_file(installation.store.get_sweep(sweep.id)).open())
    rows = list(zip(table["cell_id"].to_pylist(), table["doc_id"].to_pylist(), strict=True))
    assert len(rows) == len(set(rows)) == record.samples


async def test_work_waits_for_a_full_disk(tmp_path: Path) -> None:
    """Database and results lie on it; no attempt of a cell is counted, and nothing must be restarted."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        store = SqlStore(f"sqlite:///{disk}/store.db", SystemClock())
        installation, notifier = Installation.build(disk / "installation", store=store), ChangeNotifier()
        sweep = installation.submit(tasks=[{"name": "lss", "languages": ["en", "fr", "tr"], "limit": 3}])
        ballast = fill(disk)
        async with working(installation, notifier):
            await asyncio.sleep(5)  # long enough for every cell to end, were there room
            assert store.get_sweep(sweep.id).request_counts.completed < sweep.request_counts.total
            assert store.get_sweep(sweep.id).request_counts.failed == 0
            ballast.unlink()
            await until(notifier, lambda: store.get_sweep(sweep.id).state in SWEEP_ENDED)
        all_is_well(installation, sweep)
        store.close()


async def test_an_identification_waits_for_a_disk_that_its_neurons_do_not_fit_on(tmp_path: Path) -> None:
    """There is room for the folder of the set, but not for its arrays."""
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation, notifier = Installation.build(tmp_path / "installation", store=store), ChangeNotifier()
    with small_disk(Path(installation.neurons), "64k") as disk:
        sweep = installation.submit()
        ballast = fill(disk)
        os.truncate(ballast, ballast.stat().st_size - 4096)
        async with working(installation, notifier):
            await asyncio.sleep(5)
            counts = store.get_sweep(sweep.id).request_counts
            assert (counts.completed < counts.total, counts.failed) == (True, 0)
            assert installation.neuron_sets.infos() == []
            ballast.unlink()
            await until(notifier, lambda: store.get_sweep(sweep.id).state in SWEEP_ENDED)
        all_is_well(installation, sweep)
    store.close()


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Let a folder on another disk appear at `target`."""
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


async def test_nothing_is_computed_again_after_a_disk_was_unmounted_and_mounted(tmp_path: Path) -> None:
    """Results and neuron sets lie on it. Nothing is written below its mount point meanwhile."""
    store, notifier = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock()), ChangeNotifier()
    published = tmp_path / "published"
    published.mkdir()
    with small_disk(tmp_path / "disk", "16m") as disk, ExitStack() as mounted:
        mounted.enter_context(bound(disk, published))
        installation = Installation.build(tmp_path / "installation", store=store, published=str(published / "here"))
        first = installation.submit()
        async with working(installation, notifier, seconds_per_step=0.05):
            await until(notifier, lambda: store.get_sweep(first.id).state in SWEEP_ENDED)
            ended = store.get_sweep(first.id)
            second = installation.submit(tasks=[{"name": "lss", "languages": ["fr"], "limit": 4}])
            mounted.close()
            with pytest.raises(Unavailable, match=f"the disk at {published} is no longer mounted"):
                installation.results.check_sweep(ended)
            await asyncio.sleep(5)
            counts = store.get_sweep(second.id).request_counts
            assert (counts.completed < counts.total, counts.failed) == (True, 0)
            assert list(published.iterdir()) == []
            mounted.enter_context(bound(disk, published))
            await until(notifier, lambda: store.get_sweep(second.id).state in SWEEP_ENDED)
            all_is_well(installation, first)
            all_is_well(installation, second)
        assert store.get_sweep(first.id) == ended
        assert "cell.reset" not in {event.type for event in store.events(first.id)}
    store.close()


async def test_work_waits_for_a_database_that_was_moved(tmp_path: Path) -> None:
    """A store that went on in the moved file would lose everything once the server is restarted on what is there."""
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation, notifier = Installation.build(tmp_path / "installation", store=store), ChangeNotifier()
    sweep = installation.submit()
    async with working(installation, notifier, seconds_per_step=0.05):
        await until(notifier, lambda: store.get_sweep(sweep.id).request_counts.completed > 0)
        (tmp_path / "store.db").rename(tmp_path / "moved.db")
        with pytest.raises(Unavailable, match="was moved, deleted or replaced"):
            store.get_sweep(sweep.id)
        await asyncio.sleep(5)
        (tmp_path / "moved.db").rename(tmp_path / "store.db")
        await until(notifier, lambda: store.get_sweep(sweep.id).state in SWEEP_ENDED)
    all_is_well(installation, sweep)
    store.close()


async def test_work_waits_for_a_locked_database(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation, notifier = Installation.build(tmp_path / "installation", store=store), ChangeNotifier()
    sweep = installation.submit()
    async with working(installation, notifier, seconds_per_step=0.05):
        await until(notifier, lambda: store.get_sweep(sweep.id).request_counts.completed > 0)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("PRAGMA busy_timeout=5000")
        other.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()
        before = store.get_sweep(sweep.id).request_counts.completed
        await asyncio.sleep(10)
        assert store.get_sweep(sweep.id).request_counts.completed == before, "reading goes on"
        other.execute("ROLLBACK")
        other.close()
        await until(notifier, lambda: store.get_sweep(sweep.id).state in SWEEP_ENDED)
        assert time.monotonic() - locked < 25
    all_is_well(installation, sweep)
    store.close()


async def test_results_whose_folder_goes_are_computed_again(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation, notifier = Installation.build(tmp_path / "installation", store=store), ChangeNotifier()
    sweep = installation.submit()
    async with working(installation, notifier, seconds_per_step=0.05):
        await until(notifier, lambda: store.get_sweep(sweep.id).request_counts.completed > 2)
        shutil.rmtree(installation.published)
        await until(notifier, lambda: store.get_sweep(sweep.id).state in SWEEP_ENDED)
    all_is_well(installation, sweep)
    assert "cell.reset" in {event.type for event in store.events(sweep.id)}
    store.close()
