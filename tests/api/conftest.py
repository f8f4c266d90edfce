"""Fixtures of the API's tests: the event loop, the check for stalls, a server's folders and store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation


@pytest.fixture(autouse=True)
def _fail_on_stalls(no_loop_stalls: None) -> None:
    """Fail every test whose event loop stalls."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.build(tmp_path)


@pytest.fixture(scope="module")
async def shared_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server without a dispatcher that the tests of a module share, for requests that it refuses."""
    async with running_server(Installation.build(tmp_path_factory.mktemp("shared")), working=False) as server:
        await server.pool.ready()
        yield server
