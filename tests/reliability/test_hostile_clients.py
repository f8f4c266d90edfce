"""Clients that do not read, send too much, or send the same request a hundred times at once, on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sse_starlette.event import ServerSentEvent

from ampsweep.cli.server import http_server
from api.routes import events
from jobs.clock import SystemClock
from jobs.store.records import CellFile
from jobs.store.sql.store import SqlStore
from tests.api.running_server import Server, running_server
from tests.api.socket_server import server_on_socket
from tests.jobs.cluster import a_cell, completed
from tests.worker.installation import SPEC, Installation

pytestmark = [pytest.mark.anyio]

FILE = CellFile(name="f", rows=1, sha256="s")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    yield Installation.build(tmp_path, store=store)
    store.close()


# --- clients that do not read


class Followed:
    """Counts the event streams that are being made; `idle` are the seconds from the last event of each to its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.idle: list[float] = []
        self._changed = asyncio.Condition()
        self._follow = events._follow
        monkeypatch.setattr(events, "_follow", self._counted)

    async def until(self, count: int) -> None:
        """Wait until there are just so many."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.count == count)

    async def _counted(self, *arguments: Any) -> AsyncGenerator[ServerSentEvent]:
        await self._add(1)
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            async with aclosing(self._follow(*arguments)) as events:
                async for event in events:
                    last = loop.time()
                    yield event
        finally:
            self.idle.append(loop.time() - last)
            await self._add(-1)

    async def _add(self, change: int) -> None:
        self.count += change
        async with self._changed:
            self._changed.notify_all()


def ends(server: Server) -> asyncio.Semaphore:
    """Return what can be acquired once for each stream that no longer counts as its caller's."""
    limiter, ended = server.app.state.stream_limiter, asyncio.Semaphore(0)
    release = limiter.release

    def release_and_count(principal_id: str) -> None:
        release(principal_id)
        ended.release()

    limiter.release = release_and_count
    return ended


def a_long_story(installation: Installation, cells: int) -> str:
    """Make a sweep with more events than the buffers on the way to a client take; it goes on."""
    sweep = installation.store.create_sweep(name="n", spec={}, cells=[a_cell(number) for number in range(cells)])
    leases = installation.store.lease_cells("w", models=["tiny"], limit=cells - 1, ttl=600)
    installation.store.report([completed(lease, FILE) for lease in leases])
    return sweep.id


@contextmanager
def stalled(url: str, path: str) -> Iterator[None]:
    """Ask for a stream and read nothing of it."""
    host, port = httpx.URL(url).host, httpx.URL(url).port
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield


def sockets() -> int:
    """Count this process's sockets, the server's and the clients'."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(path.readlink()).startswith("socket:")
    return count


def until_closed(count: int) -> None:
    """Wait until the server has let go of connections, so that no more sockets are left."""
    for _ in range(300):
        if sockets() <= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"{sockets() - count} connections are still held")


async def ids(url: str, path: str) -> list[int]:
    """Read a stream to its end."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client, client.stream("GET", path) as answer:
        return [int(line.removeprefix("id: ")) async for line in answer.aiter_lines() if line.startswith("id: ")]


async def stall(installation: Installation, followed: Followed, *, clients: int, send_timeout: float) -> float:
    """Let clients stall; return how long after the time-out the last of their streams had ended."""
    async with AsyncExitStack() as exits:
        server = await exits.enter_async_context(running_server(installation, working=False))
        server.app.state.services = replace(server.app.state.services, send_timeout=send_timeout)
        ended = ends(server)
        sweep_id = a_long_story(installation, 600)
        path = f"/v1/sweeps/{sweep_id}/events"
        url = await exits.enter_async_context(server_on_socket(server, send_buffer=8192))
        healthy = [asyncio.create_task(ids(url, path)) for _ in range(3)]
        await followed.until(len(healthy))
        with ExitStack() as held:
            before = sockets()
            for _ in range(clients):
                held.enter_context(stalled(url, path))
            await followed.until(len(healthy) + clients)
            await followed.until(len(healthy))
            after = max(followed.idle) - send_timeout
            assert len(followed.idle) == clients
            for _ in range(clients):
                await asyncio.wait_for(ended.acquire(), 10)
            await asyncio.to_thread(until_closed, before + clients)
        await server.http.post(f"/v1/sweeps/{sweep_id}/cancel")
        expected = [event.id for event in installation.store.events(sweep_id, limit=10_000)]
        assert [await each for each in healthy] == [expected] * len(healthy)
    return after


async def test_clients_that_do_not_read_are_disconnected(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "STALLED_SECONDS", 1)
    assert await stall(installation, Followed(monkeypatch), clients=3, send_timeout=1.0) < 10


@pytest.mark.reliability
async def test_a_hundred_clients_that_do_not_read_are_disconnected_within_two_seconds(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "STALLED_SECONDS", 15)
    after = await stall(installation, Followed(monkeypatch), clients=100, send_timeout=10.0)
    print(f"100 stalled clients: the last stream ended {after:.2f} s after its time-out")
    assert after < 2


# --- bodies


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure by how many MiB this process's memory grew at most while the block ran."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak from now on
    peaks = [0.0]
    before = _status("VmRSS")
    yield peaks
    peaks[0] = _status("VmHWM") - before


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kib) / 1024


async def a_long_body(mib: int) -> AsyncIterator[bytes]:
    for _ in range(mib * 16):
        yield b" " * 65_536


async def too_large(url: str, mib: int, *, chunked: bool) -> int:
    """Send a body over the limit; return the status of the answer, which may come before the body's end."""
    headers = {} if chunked else {"Content-Length": str(mib * 2**20)}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.post("/v1/sweeps", content=a_long_body(mib), headers=headers)
        return answer.status_code


@pytest.mark.reliability
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
async def test_bodies_over_the_limit_are_not_taken_into_memory(installation: Installation, chunked: bool) -> None:
    async with running_server(installation, working=False) as server, server_on_socket(server) as url:
        assert await too_large(url, 1, chunked=chunked) == 413
        with peak_memory() as grown:
            statuses = await asyncio.gather(*(too_large(url, 256, chunked=chunked) for _ in range(20)))
        assert set(statuses) == {413}
    print(f"20 bodies of 256 MiB at once: memory grew by {grown[0]:.0f} MiB")
    assert grown[0] < 64


# --- the same a hundred times


async def equal_posts(server: Server, url: str, count: int) -> Counter[int]:
    """Send one request `count` times at once, and each again while it is told to wait; return the statuses."""
    statuses: Counter[int] = Counter()
    answers: set[str] = set()

    async def post(client: httpx.AsyncClient) -> None:
        status = 409
        while status == 409:
            answer = await client.post("/v1/sweeps", json=SPEC, headers={"Idempotency-Key": "same"})
            status = answer.status_code
            statuses[status] += 1
        assert status == 201, answer.text
        answers.add(json.dumps(answer.json(), sort_keys=True))

    limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(post(client) for _ in range(count)))
    assert len(answers) == 1, "every answer is that of the first"
    sweeps: list[Any] = list(server.installation.store.list_sweeps().data)
    assert len(sweeps) == 1
    return statuses


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.reliability)])
async def test_equal_requests_at_once_make_one_sweep(installation: Installation, count: int) -> None:
    async with running_server(installation) as server, server_on_socket(server) as url:
        statuses = await equal_posts(server, url, count)
    print(f"{count} equal requests at once: {dict(statuses)}, 1 sweep")
    assert (statuses[201], set(statuses) <= {201, 409}) == (count, True)
