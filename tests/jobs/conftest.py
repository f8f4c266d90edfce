from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.planning.catalog import Catalog
from tests.jobs.cluster import ManualClock, write_catalog
from tests.object_store import IN_A_BUCKET, ObjectStore, give_credentials, object_store


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return write_catalog(tmp_path / "catalog")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def object_store_server() -> Iterator[ObjectStore]:
    """An object store with the bucket `ampsweep`, which the tests of a process share."""
    with object_store() as store:
        store.bucket("ampsweep")
        yield store


@pytest.fixture
def bucket(tmp_path: Path, object_store_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty prefix of a bucket."""
    give_credentials(monkeypatch)
    return object_store_server.address("ampsweep", tmp_path.name)


@pytest.fixture(params=["folder", IN_A_BUCKET])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty storage: a folder or a bucket."""
    if request.param == "folder":
        return str(tmp_path / "files")
    in_a_bucket: str = request.getfixturevalue("bucket")
    return in_a_bucket


@pytest.fixture
def own_datasets_cache(tmp_path: Path) -> Iterator[None]:
    """Let the library `datasets` keep what it has read in a folder of the test."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "datasets"
    yield
    datasets.config.HF_DATASETS_CACHE = before
