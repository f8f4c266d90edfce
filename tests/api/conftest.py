"""What the api tests share: one event loop's kind, and a server's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.house import House


@pytest.fixture(autouse=True)
def _loops_turn(no_loop_stalls: None) -> None:
    """Hold every test to it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.build(tmp_path)
