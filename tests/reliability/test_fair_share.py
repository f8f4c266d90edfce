"""A small sweep starts at once although another user's huge sweep runs, and the huge one can be cancelled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ampsweep import Client
from api.auth.api_keys import KeyFile, KeyScope
from tests.ampsweep.client.server_process import server_process
from tests.reliability.test_killed_processes import LONGEST, spec, until_completed, whole

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

STARTS_WITHIN = 5.0
STOPS_WITHIN = 10.0


def small() -> dict[str, Any]:
    """A sweep of 2 cells, neither of them known."""
    return spec(1) | {"seed": 1, "tasks": [{"name": "lss", "languages": ["fr"], "limit": 5}]}


def test_a_small_sweep_beside_a_huge_one(model: Path, tmp_path: Path) -> None:
    wide = spec(833, "random")
    wide["interventions"]["patch"] = ["max", "median", "mean"]
    keys = KeyFile(tmp_path / "home" / "keys.json")
    scopes = frozenset({KeyScope.READ, KeyScope.SUBMIT})
    (_, ada), (_, bob) = (keys.create(name, scopes, now=0.0) for name in ("ada", "bob"))
    with (
        server_process(model, tmp_path / "home") as server,
        Client(server.url, api_key=ada) as first,
        Client(server.url, api_key=bob) as second,
    ):
        huge = first.submit(wide)
        until_completed(first, huge.id, 30, seconds=LONGEST)

        sent = time.monotonic()
        sweep = second.submit(small())
        until_completed(second, sweep.id, 1, seconds=STARTS_WITHIN)
        started = time.monotonic() - sent
        *_, last = second.watch(sweep.id)
        ended = time.monotonic() - sent
        assert last.status == "completed"
        whole(second, sweep)

        assert not first.sweep(huge.id).ended
        submitted_at = time.monotonic()
        first.cancel(huge.id)
        *_, last = first.watch(huge.id)
        stopped = time.monotonic() - submitted_at
        assert last.status == "cancelled"
        assert stopped < STOPS_WITHIN
        print(
            f"beside {huge.request_counts.total} cells: one of {sweep.request_counts.total} done after {started:.1f} s,"
            f" all after {ended:.1f} s; the huge sweep was cancelled within {stopped:.1f} s"
        )
