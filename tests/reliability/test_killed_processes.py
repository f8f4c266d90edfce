"""Engines and servers killed during a sweep: nothing is lost and nothing is computed twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from ampsweep import Client
from ampsweep.client.models import Event, Sweep
from ampsweep.errors import AmpsweepError, Unavailable
from tests.ampsweep.client.server_process import ServerProcess, server_process
from tests.ampsweep.processes import descendants

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

LONGEST = 45.0
"""Seconds within which the work must go on after an engine was killed."""


def spec(factors: int, *controls: str) -> dict[str, Any]:
    """A sweep of 2 * (factors + 1) cells, or of 4 * factors + 2 with controls."""
    return {
        "name": "long",
        "model": "tiny",
        "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
        "interventions": {
            "languages": ["fr", "tr"],
            "op": "set",
            "patch": ["max"],
            "factors": [round(0.5 + 0.01 * number, 2) for number in range(factors)],
            "controls": list(controls),
        },
        "tasks": [{"name": "lss", "languages": ["en"], "limit": 4}],
    }


def engines(server: ServerProcess) -> list[int]:
    """Return the processes below a server in which Ray runs an engine."""
    pids = []
    for pid, _ in descendants(server.process.pid):
        with suppress(OSError):
            if b"RayEngineActor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
    return pids


def rows(table: pa.Table) -> list[str]:
    """Return a sweep's rows, comparable to another's: without its id, in an order of their own."""
    return sorted(json.dumps({**row, "sweep_id": ""}, sort_keys=True) for row in table.to_pylist())


def whole(client: Client, sweep: Sweep) -> None:
    """Every cell once, none failed, no row twice."""
    ended = client.sweep(sweep.id)
    assert (ended.status, ended.request_counts.failed) == ("completed", 0)
    assert ended.request_counts.completed == ended.request_counts.total == sweep.request_counts.total
    cells = list(client.cells(sweep.id))
    table = client.results(sweep.id)
    keys = list(zip(table["cell_id"].to_pylist(), table["doc_id"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys)) == sum(cell["rows"] or 0 for cell in cells) == ended.samples
    assert {cell_id for cell_id, _ in keys} == {cell["id"] for cell in cells}


def until_completed(client: Client, sweep_id: str, count: int, *, seconds: float) -> float:
    """Wait until so many cells are completed; return how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        with suppress(Unavailable):
            sweep = client.sweep(sweep_id)
            if sweep.request_counts.completed >= count or sweep.ended:
                return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError(f"{count} cells were not completed within {seconds} s: {client.sweep(sweep_id)}")


def kill_engines(model: Path, folder: Path, *, kills: int, factors: int) -> list[float]:
    """Kill the engine at random points of a sweep; return how long it took each time until a cell was completed."""
    chance = random.Random(1)
    delays = []
    with server_process(model, folder / "killed") as server, Client(server.url) as client:
        sweep = client.submit(spec(factors))
        points = sorted(chance.sample(range(sweep.request_counts.total - 20), kills))
        for point in points:
            until_completed(client, sweep.id, point, seconds=LONGEST)
            while not (running := engines(server)):
                time.sleep(0.05)
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            done = client.sweep(sweep.id).request_counts.completed
            delays.append(until_completed(client, sweep.id, done + 1, seconds=LONGEST))
        *_, last = client.watch(sweep.id)
        assert last.status == "completed"
        whole(client, sweep)
        killed = rows(client.results(sweep.id))
    with server_process(model, folder / "clean") as server, Client(server.url) as client:
        sweep = client.submit(spec(factors))
        *_, last = client.watch(sweep.id)
        assert rows(client.results(sweep.id)) == killed, "an interrupted sweep and a clean one have identical rows"
    return delays


def follow(url: str, sweep_id: str, after: int, *, seconds: float) -> Iterator[Event]:
    """Yield events for a while, or until the connection breaks."""
    until = time.monotonic() + seconds
    with suppress(AmpsweepError), Client(url) as client, closing(client.events(sweep_id, after=after)) as events:
        for event in events:
            yield event
            if time.monotonic() > until:
                return


def seconds_until_it_answers(url: str) -> float:
    """Ask a server how it is until it says so; return how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < LONGEST:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz", timeout=1).status_code == 200:
                return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError("the server never answered")


def kill_servers(model: Path, folder: Path, *, kills: int, factors: int) -> list[float]:
    """Kill the whole server while its sweep runs and is followed; return how long each next start took to answer."""
    chance = random.Random(2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    starts, last, sweep, url = list[float](), 0, None, f"http://127.0.0.1:{port}"
    for kill in range(kills + 1):
        answers = ThreadPoolExecutor(1).submit(seconds_until_it_answers, url)
        with server_process(model, folder / "home", "--port", port) as server, Client(server.url) as client:
            starts.append(answers.result())
            if sweep is None:
                sweep = client.submit(spec(factors, "random"))
            seconds = 600 if kill == kills else chance.uniform(0.2, 1.5)
            for event in follow(url, sweep.id, last, seconds=seconds):
                assert event.id == last + 1, "an event was lost, or came twice"
                last = event.id
            if kill == kills:
                assert client.sweep(sweep.id).ended
                whole(client, sweep)
            else:
                assert not client.sweep(sweep.id).ended, "the sweep is too short for so many kills"
                os.kill(server.process.pid, signal.SIGKILL)
                server.process.wait()
    return starts[1:]


def test_an_engine_killed_fifty_times(model: Path, tmp_path: Path) -> None:
    delays = kill_engines(model, tmp_path, kills=50, factors=400)
    print(f"50 kills: work went on after {sum(delays) / len(delays):.1f} s on average, {max(delays):.1f} s at most")


def test_a_server_killed_twenty_times(model: Path, tmp_path: Path) -> None:
    starts = kill_servers(model, tmp_path, kills=20, factors=900)
    print(f"20 kills: answers again after {sum(starts) / len(starts):.1f} s on average, {max(starts):.1f} s at most")


def test_a_server_told_to_end_gives_its_leases_back_and_ends_well(model: Path, tmp_path: Path) -> None:
    with server_process(model, tmp_path / "home") as server, Client(server.url) as client:
        sweep = client.submit(spec(400))
        until_completed(client, sweep.id, 5, seconds=LONGEST)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        print(f"SIGTERM: ended after {time.monotonic() - begun:.1f} s")
    with sqlite3.connect(tmp_path / "home" / "ampsweep.db") as db:
        assert db.execute("SELECT count(*) FROM cells WHERE state = 'leased'").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM cells WHERE state = 'pending'").fetchone() > (0,)
        assert db.execute("SELECT max(attempts) FROM cells WHERE state = 'pending'").fetchone() == (0,)


def test_a_hanging_engine_loses_its_cells_and_is_replaced(model: Path, tmp_path: Path) -> None:
    with server_process(model, tmp_path / "home") as server, Client(server.url) as client:
        sweep = client.submit(spec(400))
        until_completed(client, sweep.id, 5, seconds=LONGEST)
        (engine,) = engines(server)
        os.kill(engine, signal.SIGSTOP)
        done = client.sweep(sweep.id).request_counts.completed
        waited = until_completed(client, sweep.id, done + 30, seconds=90)
        print(f"a hung engine was replaced within {waited:.1f} s")
        *_, last = client.watch(sweep.id)
        assert last.status == "completed"
        whole(client, sweep)
