"""The contract of every storage, on a folder and on an object store."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ampsweep.errors import NotFound
from jobs.storage.factory import join, open_storage
from jobs.storage.protocol import Storage, StoredFile


@pytest.fixture
def storage(address: str) -> Storage:
    return open_storage(address)


def put(storage: Storage, name: str, content: bytes) -> None:
    with storage.writing(name) as path:
        path.write_bytes(content)


def test_what_is_written_is_read_whole_in_part_and_by_its_size(storage: Storage) -> None:
    put(storage, "cells/a.1.parquet", b"0123456789")
    assert storage.read("cells/a.1.parquet") == b"0123456789"
    with storage.open("cells/a.1.parquet") as file:
        assert (file.size(), file.read_at(3, 4), file.read_at(9, 8)) == (10, b"456", b"89")
    info = storage.stat("cells/a.1.parquet")
    assert (info.size, len(info.etag) > 8) == (10, True)
    assert '"' not in info.etag
    assert info.modified > 1e9


def test_a_name_that_is_too_long_for_a_file_does_not_exist(storage: Storage) -> None:
    put(storage, f"cells/{'a' * 255}", b"")
    for call in (storage.read, storage.stat, storage.open, storage.delete):
        with pytest.raises(NotFound, match="not a valid file name"):
            call(f"cells/{'a' * 256}")


def test_a_file_is_downloaded_whole(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "downloaded"
    put(storage, "empty", b"")
    put(storage, "cells/a", b"0123456789")
    for name in ("cells/a", "empty"):
        storage.download(name, target)
        assert target.read_bytes() == StoredFile(storage=storage, name=name).read()
    with pytest.raises(NotFound, match="cells/b"):
        storage.download("cells/b", target)


def test_another_content_has_another_etag_and_the_same_name(storage: Storage) -> None:
    put(storage, "a", b"one")
    first = storage.stat("a")
    assert storage.stat("a") == first
    put(storage, "a", b"two")
    assert storage.stat("a").etag != first.etag
    assert storage.read("a") == b"two"


def test_a_large_file_arrives_whole(storage: Storage) -> None:
    content = bytes(range(256)) * (23 * 1024 * 4)  # 23 MiB: several parts
    put(storage, "large", content)
    assert storage.stat("large").size == len(content)
    assert storage.read("large") == content


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    put(storage, "empty", b"")
    assert (storage.read("empty"), storage.stat("empty").size) == (b"", 0)


def test_writing_that_fails_publishes_nothing_and_keeps_what_was_there(storage: Storage) -> None:
    put(storage, "kept", b"before")
    for name in ("kept", "new"):
        with pytest.raises(ZeroDivisionError), storage.writing(name) as path:
            path.write_bytes(bytes([1 // 0]) if path.write_bytes(b"half") else b"")
    assert storage.read("kept") == b"before"
    assert storage.names() == ["kept"]


def test_a_new_file_takes_no_place_of_another(storage: Storage) -> None:
    assert storage.publish_new("presets/a", b"first")
    assert not storage.publish_new("presets/a", b"second")
    assert storage.read("presets/a") == b"first"
    assert storage.names() == ["presets/a"]
    storage.delete("presets/a")
    assert storage.publish_new("presets/a", b"third")
    assert storage.read("presets/a") == b"third"


def test_nothing_is_seen_before_the_end(storage: Storage) -> None:
    with storage.writing("sweeps/s/results.parquet") as path:
        path.write_bytes(b"part")
        assert storage.names() == []
        with pytest.raises(NotFound):
            storage.stat("sweeps/s/results.parquet")
    assert storage.names() == ["sweeps/s/results.parquet"]


def test_names_are_those_below_a_folder(storage: Storage) -> None:
    assert storage.names() == storage.names("cells") == []
    for name in ("cells/b", "cells/a", "sweeps/s/r", "cells2/c", "x"):
        put(storage, name, b"1")
    assert storage.names() == ["cells/a", "cells/b", "cells2/c", "sweeps/s/r", "x"]
    assert storage.names("cells") == ["cells/a", "cells/b"]
    assert storage.names("sweeps/s") == ["sweeps/s/r"]


def test_a_deleted_file_is_gone_and_deleting_it_again_does_nothing(storage: Storage) -> None:
    put(storage, "cells/a", b"1")
    put(storage, "cells/b", b"1")
    for _ in range(2):
        storage.delete("cells/a")
    storage.delete("never/was")
    assert storage.names() == ["cells/b"]
    for look in (storage.read, storage.stat, storage.open):
        with pytest.raises(NotFound):
            look("cells/a")


def test_many_files_are_deleted_at_once_if_they_exist(storage: Storage) -> None:
    for name in ("cells/a", "cells/b", "cells/c", "sweeps/s/r"):
        put(storage, name, b"1")
    storage.delete("cells/a", "never/was", "sweeps/s/r", "cells/c")
    storage.delete()
    assert storage.names() == ["cells/b"]


def test_a_folder_is_synced_once_for_all_files_that_are_deleted_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path))
    for name in ("cells/a", "cells/b", "sweeps/s/r"):
        put(storage, name, b"1")
    synced: list[Path] = []
    monkeypatch.setattr("jobs.storage.local.sync_folder", synced.append)
    storage.delete("cells/a", "cells/b", "sweeps/s/r")
    assert sorted(synced) == [tmp_path / "cells", tmp_path / "sweeps" / "s"]


def test_a_folder_is_not_a_file(storage: Storage) -> None:
    put(storage, "cells/a", b"1")
    with pytest.raises(NotFound):
        storage.stat("cells")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".hidden", "a b", "a?x=1"])
def test_invalid_names_never_leave_the_root(storage: Storage, name: str) -> None:
    for look in (storage.read, storage.stat, storage.open, storage.delete):
        with pytest.raises(NotFound):
            look(name)
    with pytest.raises(NotFound), storage.writing(name):
        raise AssertionError("a file outside was begun")


def test_writers_of_the_same_name_at_the_same_time_leave_one_of_them_whole(storage: Storage) -> None:
    contents = [bytes([index]) * 100_000 for index in range(8)]
    threads = [threading.Thread(target=put, args=(storage, "same", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read("same") in contents
    assert storage.names() == ["same"]


def test_the_same_address_opens_the_same_files(storage: Storage, address: str) -> None:
    put(storage, "neurons/a", b"1")
    assert storage.root == address
    assert open_storage(storage.root).names() == ["neurons/a"]
    assert open_storage(join(address, "neurons")).read("a") == b"1"


def test_checking_leaves_nothing(storage: Storage) -> None:
    storage.check()
    assert storage.names() == []


def test_a_stored_file_is_its_storage_and_name(storage: Storage) -> None:
    put(storage, "a", b"one")
    file = StoredFile(storage=storage, name="a")
    with file.open() as opened:
        assert (file.read(), file.stat().size, opened.readall()) == (b"one", 3, b"one")
