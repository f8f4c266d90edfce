from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.store.protocol import Store
from tests.jobs.cluster import CountingIds, ManualClock, quick_sql_store
from tests.jobs.store.reference_store import ReferenceStore
from tests.postgres import empty_store


@pytest.fixture(params=["sqlite", "postgresql", "reference"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """The product's store on both databases, and the tests' reference: all keep the same promises."""
    new_store: Store = ReferenceStore(clock, CountingIds())
    if request.param == "sqlite":
        new_store = quick_sql_store(tmp_path, clock)
    elif request.param == "postgresql":
        new_store = empty_store(request.getfixturevalue("postgres_url"), clock, CountingIds())
    yield new_store
    new_store.close()
