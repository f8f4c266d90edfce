"""Fixtures of the worker's tests: the event loop, and a server's folders and store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.installation import Installation


@pytest.fixture(autouse=True)
def _loops_turn(no_loop_stalls: None) -> None:
    """Hold every test to it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.build(tmp_path)
