"""Published Parquet files with flipped bits or truncated: they are never served, and computed again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.clock import SystemClock
from jobs.store.sql.store import SqlStore
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


def turn_a_bit_over(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def cut_off(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def quietly(file: Path, chance: random.Random, damage: str) -> None:
    """Damage a file, and leave it the time of its last change, as a bad copy does."""
    before = file.stat()
    (cut_off if damage == "cut" else turn_a_bit_over)(file, chance)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


async def rows(server: Server, sweep_id: str) -> list[dict[str, object]] | None:
    """Return a sweep's samples in an order of their own; None where they are not served."""
    answer = await server.http.get(f"/v1/sweeps/{sweep_id}/results")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return None
    assert answer.status_code == httpx.codes.OK, answer.text
    table = pq.read_table(pa.BufferReader(answer.content), page_checksum_verification=True)
    return sorted(table.to_pylist(), key=lambda row: (row["cell_id"], row["doc_id"]))


async def damaged(folder: Path, *, flips: int, cuts: int) -> None:
    """Damage a cell's file and one of its sweep's, again and again; look at what is served before and after."""
    chance = random.Random(3)
    installation = Installation.build(folder, store=SqlStore(f"sqlite:///{folder}/store.db", SystemClock()))
    published = Path(installation.published)
    damages = ["flip"] * flips + ["cut"] * cuts
    chance.shuffle(damages)
    async with running_server(installation) as server:
        sweep_id = await server.done()
        whole = await rows(server, sweep_id)
        assert whole
        last_event = installation.store.events(sweep_id)[-1].id
        for damage in damages:
            files = installation.store.get_sweep(sweep_id).files
            assert files is not None
            current = f"*.{files.epoch}.parquet"
            cell = chance.choice([cell for cell in installation.store.list_cells(sweep_id).data if cell.file])
            quietly(published / "cells" / str(cell.file), chance, damage)
            quietly(chance.choice(sorted((published / "sweeps" / sweep_id).glob(current))), chance, damage)
            assert await rows(server, sweep_id) is None, "served, though damaged"
            await server.ended(sweep_id)
            events = installation.store.events(sweep_id, after=last_event)
            last_event = events[-1].id
            assert [event.data["cell_id"] for event in events if event.type == "cell.reset"] == [cell.id]
            assert [event.data["cell_id"] for event in events if event.type == "cell.completed"] == [cell.id]
            assert await rows(server, sweep_id) == whole
    installation.store.close()


@pytest.mark.processes  # takes seconds
async def test_damaged_files_are_not_served_and_computed_again(tmp_path: Path) -> None:
    await damaged(tmp_path, flips=3, cuts=2)


@pytest.mark.reliability
@pytest.mark.timeout(900)
async def test_two_hundred_flipped_bits_and_twenty_cuts_are_not_served(tmp_path: Path) -> None:
    await damaged(tmp_path, flips=200, cuts=20)
