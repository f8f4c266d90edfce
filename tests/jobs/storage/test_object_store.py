"""Behaviour of object stores only: interrupted uploads, an unreachable service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ampsweep.errors import InvalidRequest, Unavailable
from jobs.storage.factory import open_storage
from jobs.storage.local import CHECK_FILE
from jobs.storage.object_store import ObjectStorage
from jobs.storage.protocol import Storage
from tests.object_store import ObjectStore, give_credentials, object_store

pytestmark = pytest.mark.processes


def hasty(server: ObjectStore) -> Storage:
    """A storage that gives up after the first try."""
    return ObjectStorage(urlsplit(server.address("ampsweep", "p")), attempts=1)


LARGE = b"x" * (22 * 1024 * 1024)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    give_credentials(monkeypatch)
    with object_store() as store:
        yield store


def test_an_upload_whose_part_fails_publishes_nothing(server: ObjectStore) -> None:
    client = server.bucket("ampsweep")
    storage = hasty(server)
    server.fails = lambda method, _path, query: method == "PUT" and "partNumber=2" in query
    with pytest.raises(Unavailable, match="a fault"), storage.writing("large") as path:
        path.write_bytes(LARGE)
    assert "Contents" not in client.list_objects_v2(Bucket="ampsweep", Prefix="p/")
    server.fails = None
    with storage.writing("large") as path:
        path.write_bytes(LARGE)
    assert storage.stat("large").size == len(LARGE)


def test_a_local_file_that_cannot_be_read_publishes_nothing(server: ObjectStore) -> None:
    server.bucket("ampsweep")
    writing = hasty(server).writing("large")
    path = writing.__enter__()
    path.unlink()
    path.symlink_to("/proc/self/mem")  # can be opened, and refuses to be read
    with pytest.raises(Unavailable, match="Input/output error"):
        writing.__exit__(None, None, None)
    assert hasty(server).names() == []


def test_a_temporary_failure_is_retried(server: ObjectStore) -> None:
    server.bucket("ampsweep")
    storage = open_storage(server.address("ampsweep"))
    faults = iter([True])
    server.fails = lambda method, path, _query: method == "PUT" and next(faults, False)
    with storage.writing("a") as path:
        path.write_bytes(b"1")
    assert storage.read("a") == b"1"


def test_a_small_file_is_one_upload(server: ObjectStore) -> None:
    server.bucket("ampsweep")
    storage = open_storage(server.address("ampsweep"))
    server.requests.clear()
    with storage.writing("cells/a") as path:
        path.write_bytes(b"1" * 50_000)
    assert [method for method, _ in server.requests] == ["PUT"]


def test_a_large_file_is_downloaded_in_few_requests(server: ObjectStore, tmp_path: Path) -> None:
    server.bucket("ampsweep")
    storage = hasty(server)
    with storage.writing("large") as path:
        path.write_bytes(LARGE)
    server.requests.clear()
    storage.download("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == LARGE
    assert len(server.requests) < 5, "a request for each 64 KiB takes minutes for the samples of a large sweep"
    server.fails = lambda method, _path, _query: method == "GET"
    with pytest.raises(Unavailable, match="large"):
        storage.download("large", tmp_path / "large")


def test_an_unreachable_store_is_unavailable_and_not_a_missing_file(server: ObjectStore) -> None:
    server.bucket("ampsweep")
    storage = hasty(server)
    with storage.writing("a") as path:
        path.write_bytes(b"1")
    server.fails = lambda _method, _path, _query: True
    for look in (storage.read, storage.stat, storage.open, storage.delete, storage.names):
        with pytest.raises(Unavailable):
            look("a")


def test_a_missing_bucket_is_reported_at_startup(server: ObjectStore) -> None:
    with pytest.raises(InvalidRequest, match="the bucket must exist") as caught:
        open_storage(server.address("nobody")).check()
    assert caught.value.param == "results"
    assert "s3://nobody/" in caught.value.message
    assert "bucket does not exist" in caught.value.message


def test_an_unreachable_service_is_reported_at_startup(server: ObjectStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InvalidRequest, match="cannot write below s3://ampsweep/"):
        open_storage(f"s3://ampsweep/?endpoint=http://127.0.0.1:{port}&region=us-east-1").check()


def test_servers_that_start_at_the_same_time_check_the_storage_independently(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.bucket("ampsweep")
    read = ObjectStorage.read

    def read_after_another_check(storage: ObjectStorage, name: str) -> bytes:
        monkeypatch.undo()
        give_credentials(monkeypatch)
        hasty(server).check()
        return read(storage, name)

    monkeypatch.setattr(ObjectStorage, "read", read_after_another_check)
    hasty(server).check()
    assert not [name for name in hasty(server).names() if name.startswith(CHECK_FILE)]


def test_the_environment_names_the_service_and_the_region(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bucket("ampsweep")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    open_storage("s3://ampsweep/p").check()
