from __future__ import annotations

from pathlib import Path

import pytest

from jobs.planning.catalog import Catalog
from tests.jobs.cluster import ManualClock, write_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return write_catalog(tmp_path / "catalog")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
