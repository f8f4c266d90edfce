from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture
def own_datasets_cache(tmp_path: Path) -> Iterator[None]:
    """Let the library `datasets` keep what it has read in a folder of the test."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "datasets"
    yield
    datasets.config.HF_DATASETS_CACHE = before
