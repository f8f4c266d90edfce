"""Two servers on one PostgreSQL and a search: each is killed, one of them while it finalizes a rung."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import sqlalchemy as sa

from ampsweep import Client
from jobs.clock import SystemClock
from jobs.store.sql.store import SqlStore
from jobs.store.sql.tables import sweeps
from jobs.store.transitions import SWEEP_ENDED
from tests.ampsweep.client.server_process import ServerProcess, server_process
from tests.postgres import postgres_server
from tests.reliability.test_killed_processes import rows, spec

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

RUNGS = 4
SECONDS = 600


@pytest.fixture
def store() -> Iterator[tuple[SqlStore, str]]:
    """The servers' database, looked at beside them."""
    with postgres_server() as url:
        new_store = SqlStore(url, SystemClock())
        yield new_store, url
        new_store.close()


def search() -> dict[str, Any]:
    """A search of 4 rungs and about 2,000 cells."""
    task = {"name": "lss", "languages": ["en"], "limit": 16}
    return {**spec(520, "random"), "tasks": [task], "search": {"method": "halving", "items": 2, "keep": 23}}


class Server:
    """A server that is started again after it was killed. Only its first start is waited for."""

    def __init__(self, model: Path, home: Path, *arguments: str) -> None:
        self._make = partial(server_process, model, home, *arguments)
        self._thread = ThreadPoolExecutor(1)
        self._context: AbstractContextManager[ServerProcess]
        self._starting: Future[ServerProcess]
        self.killed_while: list[str] = []

    def __enter__(self) -> Server:
        self._start()
        self._starting.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._thread:
            self._starting.result()
            self._context.__exit__(kind, error, trace)

    @property
    def answers(self) -> bool:
        """Whether it has started."""
        return self._starting.done()

    @property
    def url(self) -> str:
        """Its address, once it has started."""
        return self._starting.result().url

    @property
    def process(self) -> subprocess.Popen[str]:
        """Its process, once it has started."""
        return self._starting.result().process

    def kill(self, doing: str) -> None:
        """Kill it and start it again."""
        process = self.process
        process.kill()
        process.wait()
        self.killed_while.append(doing)
        self._context.__exit__(None, None, None)
        self._start()

    def _start(self) -> None:
        self._context = self._make()
        self._starting = self._thread.submit(self._context.__enter__)


def quiet_run(model: Path, folder: Path) -> tuple[list[str], list[dict[str, Any]], int]:
    """Return samples, summary and cells of the same search on a server that nobody kills."""
    with server_process(model, folder / "quiet") as server, Client(server.url) as client:
        sweep = client.submit(search())
        *_, last = client.watch(sweep.id)
        assert last.status == "completed"
        total = client.sweep(sweep.id).request_counts.total
        return rows(client.results(sweep.id)), summary_rows(client, sweep.id), total


def summary_rows(client: Client, sweep_id: str) -> list[dict[str, Any]]:
    return client.summary(sweep_id)["rows"]


def finalizer(store: SqlStore) -> int | None:
    """Return the process that has the lease on the finalizing sweep."""
    with store._database.reading() as db:
        owner = db.execute(sa.select(sweeps.c.finalizer)).scalar()
    return None if owner is None else int(owner.rpartition(":")[2])


def kill_servers(store: SqlStore, sweep_id: str, servers: tuple[Server, Server], total: int) -> None:
    """Kill them in turn at three random points of the work, then the one that finalizes a rung, and wait for the end.

    Both are killed before the first is killed again, so that no server completes the work while the other one starts.
    """
    points = sorted(random.Random(3).sample(range(20, total // 2), 3))
    until = time.monotonic() + SECONDS
    while (sweep := store.get_sweep(sweep_id)).state not in SWEEP_ENDED:
        assert time.monotonic() < until, sweep
        if points:
            server = servers[len(points) % 2]
            if server.answers and sweep.request_counts.completed >= points[0]:
                server.kill("computing")
                del points[0]
        elif not any("finalizing" in server.killed_while for server in servers):
            owner = finalizer(store)
            for server in servers:
                if server.answers and server.process.pid == owner:
                    server.kill("finalizing")
        time.sleep(0.002)


def test_every_rung_is_finalized_once_though_servers_are_killed(
    model: Path, tmp_path: Path, store: tuple[SqlStore, str]
) -> None:
    samples, summary, total = quiet_run(model, tmp_path)
    store_beside, url = store
    shared = ("--database-url", url, "--results", str(tmp_path / "published"))
    begun = time.monotonic()
    with (
        Server(model, tmp_path / "one", *shared) as one,
        Server(model, tmp_path / "other", *shared) as other,
    ):
        with Client(one.url) as client:
            sweep = client.submit(search())
        kill_servers(store_beside, sweep.id, (one, other), total)
        took = time.monotonic() - begun
        with Client(other.url) as client:
            assert rows(client.results(sweep.id)) == samples
            assert summary_rows(client, sweep.id) == summary
    assert Counter(one.killed_while + other.killed_while) == {"computing": 3, "finalizing": 1}

    ended = store_beside.get_sweep(sweep.id)
    assert (ended.request_counts.total, ended.request_counts.failed) == (total, 0)
    events = store_beside.events(sweep.id, limit=100_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    kinds = Counter(event.type for event in events)
    assert kinds["sweep.finalizing"] == RUNGS
    assert kinds["sweep.in_progress"] == RUNGS - 1
    assert kinds["sweep.completed"] == 1
    assert kinds["cell.completed"] == total
    assert ended.files is not None
    print(
        f"{total} cells, {RUNGS} rungs, {took:.0f} s; killed while {one.killed_while} and {other.killed_while};"
        f" {ended.files.epoch} leases to finalize; {kinds['cell.retrying']} cells leased again"
    )
