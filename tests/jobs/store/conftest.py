from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.store.memory import MemoryStore
from jobs.store.protocol import Store
from tests.jobs.world import CountingIds, ManualClock, quick_sql_store


@pytest.fixture(params=["sql", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """Both stores, each of which has to keep the same promises."""
    made: Store = MemoryStore(clock, CountingIds())
    if request.param == "sql":
        made = quick_sql_store(tmp_path, clock)
    yield made
    made.close()
