from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ampsweep.errors import Unavailable
from api import partial_results
from api.partial_results import PartialFiles, PartialWriter
from jobs.results.finalization.assembly_process import SMALL_CELLS
from jobs.results.finalization.partial import AssembledCells, assemble_cells
from jobs.store.records import CellRecord, SweepRecord
from jobs.store.transitions import SweepState
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


class HeldBack:
    """Writes the files of sweeps, each once `go` is set."""

    def __init__(self, installation: Installation) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.folders: list[Path] = []
        self._assemble = partial(assemble_cells, installation.results)

    def __call__(self, sweep: SweepRecord, cells: Sequence[CellRecord], folder: Path) -> AssembledCells:
        self.folders.append(folder)
        self.begun.release()
        assert self.go.wait(30)
        return self._assemble(sweep, cells, folder)


@pytest.fixture
def held_back(installation: Installation) -> Iterator[HeldBack]:
    held_back = HeldBack(installation)
    yield held_back
    held_back.go.set()


async def submitted(server: Server, name: str = "p") -> SweepRecord:
    return server.installation.store.get_sweep((await server.submit(name=name))["id"])


async def test_requests_that_wait_share_files_which_are_deleted_with_the_last(
    installation: Installation, held_back: HeldBack
) -> None:
    writer = PartialWriter(held_back)

    def request() -> asyncio.Task[PartialFiles | None]:
        return asyncio.create_task(writer.write(installation.store, installation.results, sweep))

    async with running_server(installation, working=False) as server:
        sweep = await submitted(server)
        first = request()
        assert await asyncio.to_thread(held_back.begun.acquire, timeout=30)
        others = [request() for _ in range(3)]
        await asyncio.sleep(0)
        others[2].cancel()
        held_back.go.set()
        files = [await first, *await asyncio.gather(*others[:2])]
    assert files[0] is not files[1], "cells may have been completed since the first was begun"
    assert files[1] is files[2]
    assert len(held_back.folders) == 2
    for written in files:
        assert written is not None
        assert written.results.cells.included == 0
        assert any(path.exists() for path in held_back.folders)
        await written.release()
    assert not any(path.exists() for path in held_back.folders)


async def test_a_small_sweep_does_not_wait_for_a_large_one(installation: Installation, held_back: HeldBack) -> None:
    writer = PartialWriter(held_back)
    async with running_server(installation, working=False) as server:
        large, small = [await submitted(server, name) for name in ("large", "small")]
        counts = replace(large.request_counts, completed=SMALL_CELLS + 1)
        tasks = [
            asyncio.create_task(writer.write(installation.store, installation.results, sweep))
            for sweep in (replace(large, request_counts=counts), replace(large, samples=10_001), small)
        ]
        for _ in range(2):
            assert await asyncio.to_thread(held_back.begun.acquire, timeout=30)
        held_back.go.set()
        for files in await asyncio.gather(*tasks):
            assert files is not None
            await files.release()


async def test_a_sweep_that_ends_meanwhile_has_no_partial_results(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep = installation.store.get_sweep(await server.done())
        running = replace(sweep, state=SweepState.IN_PROGRESS)
        assert await PartialWriter().write(installation.store, installation.results, running) is None


async def test_many_requests_leave_threads_for_others_and_too_many_are_refused(
    installation: Installation, held_back: HeldBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_results, "MAX_WAITING", 2)
    async with running_server(installation, working=False) as server:
        server.app.state.services = replace(server.app.state.services, partial_writer=PartialWriter(held_back))
        sweeps = [await submitted(server, name) for name in ("a", "b", "c", "d")]

        def get(sweep: SweepRecord) -> asyncio.Task[int]:
            async def status() -> int:
                return (await server.http.get(f"/v1/sweeps/{sweep.id}/results?partial=true")).status_code

            return asyncio.create_task(status())

        first = get(sweeps[0])
        assert await asyncio.to_thread(held_back.begun.acquire, timeout=30)
        others = [get(sweep) for sweep in sweeps[1:3] for _ in range(40)]
        assert (await server.http.get("/v1/sweeps")).status_code == 200
        refused = await server.http.get(f"/v1/sweeps/{sweeps[3].id}/summary?partial=true")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        held_back.go.set()
        assert await asyncio.gather(first, *others) == [200] * 81
    assert len(held_back.folders) == 3
    assert not any(path.exists() for path in held_back.folders)


async def test_an_error_is_raised_for_each_request_and_leaves_no_folder(
    installation: Installation, tmp_path: Path
) -> None:
    folders: list[Path] = []

    def fail(_sweep: SweepRecord, _cells: Sequence[CellRecord], folder: Path) -> AssembledCells:
        folders.append(folder)
        raise Unavailable("the process died")

    writer = PartialWriter(fail)
    async with running_server(installation, working=False) as server:
        sweep = await submitted(server)
        for _ in range(2):
            with pytest.raises(Unavailable, match="the process died"):
                await writer.write(installation.store, installation.results, sweep)
    assert len(folders) == 2
    assert not any(path.exists() for path in folders)
