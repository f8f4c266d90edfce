"""Fixtures of the API's tests: the event loop, the check for stalls, a server's folders and store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.installation import Installation


@pytest.fixture(autouse=True)
def _fail_on_stalls(no_loop_stalls: None) -> None:
    """Fail every test whose event loop stalls."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.build(tmp_path)
