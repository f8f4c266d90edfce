"""Two servers on one PostgreSQL: both work on a sweep, and one continues after the other was killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from ampsweep import Client
from tests.ampsweep.client.server_process import ServerProcess, server_process
from tests.metric_samples import samples
from tests.postgres import postgres_server
from tests.reliability.test_killed_processes import LONGEST, spec, until_completed, whole

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]


@pytest.fixture
def database() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def completed_by(server: ServerProcess) -> float:
    """Return how many cells a server's own engines have completed."""
    return samples(httpx.get(f"{server.url}/metrics").text)["ampsweep_dispatcher_cells_ended_total", ("completed",)]


def test_the_other_server_continues_after_a_kill(model: Path, tmp_path: Path, database: str) -> None:
    shared = ("--database-url", database, "--results", str(tmp_path / "published"))
    with (
        server_process(model, tmp_path / "one", *shared) as one,
        server_process(model, tmp_path / "other", *shared) as other,
        Client(one.url) as client,
        Client(other.url) as survivor,
    ):
        sweep = client.submit(spec(900, "random"), idempotency_key="once")
        until_completed(client, sweep.id, 40, seconds=LONGEST)
        with closing(client.events(sweep.id)) as events:
            seen = [event.id for event, _ in zip(events, range(20), strict=False)]
        shares = [completed_by(one), completed_by(other)]
        assert min(shares) > 0, "both work on it"

        os.kill(one.process.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert not survivor.sweep(sweep.id).ended, "the sweep is too short to be left unfinished"
        assert survivor.submit(spec(900, "random"), idempotency_key="once").id == sweep.id
        seen += [event.id for event in survivor.events(sweep.id, after=seen[-1])]
        print(f"shares at the kill {shares}; the other was done {time.monotonic() - killed:.1f} s after it")

        assert seen == list(range(1, len(seen) + 1)), "an event was lost, or came twice"
        whole(survivor, sweep)
