from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.store.protocol import Store
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import CountingIds, ManualClock, quick_sql_store
from tests.jobs.store.reference_store import ReferenceStore
from tests.postgres import empty_store

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.processes)  # a server has to be started


def _opened(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> SqlStore:
    """Return an empty store on the database that the fixture's parameter names."""
    if request.param == "sqlite":
        return quick_sql_store(tmp_path, clock)
    return empty_store(request.getfixturevalue("postgres_url"), clock, CountingIds())


@pytest.fixture(params=["sqlite", POSTGRESQL, "reference"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """The product's store on both databases, and the tests' reference: all keep the same promises."""
    is_reference = request.param == "reference"
    new_store: Store = ReferenceStore(clock, CountingIds()) if is_reference else _opened(request, tmp_path, clock)
    yield new_store
    new_store.close()


@pytest.fixture(params=["sqlite", POSTGRESQL])
def sql_store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[SqlStore]:
    """The product's store on both databases, for what the reference does not have."""
    new_store = _opened(request, tmp_path, clock)
    yield new_store
    new_store.close()
