from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ampsweep.errors import DamagedFile, Unavailable
from api.store_check import StoreCheck
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("error", [Unavailable("connection refused"), DamagedFile("overwritten")])
async def test_a_database_that_fails_does_not_answer_until_it_is_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    check = StoreCheck(installation.store)
    assert await check.answers()

    def fail(**_: object) -> Any:
        raise error

    with monkeypatch.context() as outage:
        outage.setattr(installation.store, "list_sweeps", fail)
        assert not await check.answers()
    assert await check.answers()


async def test_checks_of_a_database_that_hangs_end_in_time_and_share_one_query(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health checks need no key: each with a thread of its own, they would take those of the other requests."""
    back, queries = threading.Event(), list[None]()

    def hang(**_: object) -> None:
        queries.append(None)
        back.wait()

    monkeypatch.setattr(installation.store, "list_sweeps", hang)
    check = StoreCheck(installation.store, timeout=0.05)
    assert await asyncio.gather(*(check.answers() for _ in range(20))) == [False] * 20
    assert not await check.answers()
    assert len(queries) == 1
    back.set()
    while not await check.answers():
        pass
    assert await check.answers()
    assert len(queries) > 1
