"""Fixtures of the API's tests: the event loop, the check for stalls, a server's folders and store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.server_stack import ServerStack


@pytest.fixture(autouse=True)
def _fail_on_stalls(no_loop_stalls: None) -> None:
    """Fail every test whose event loop stalls."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def stack(tmp_path: Path) -> ServerStack:
    return ServerStack.build(tmp_path)
