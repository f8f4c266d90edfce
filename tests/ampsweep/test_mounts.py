"""A disk that is unmounted, or a home folder that is moved, is told from files that were deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ampsweep.errors import NotFound, Unavailable
from ampsweep.mounts import Mount
from jobs.neuron_sets.registry import NeuronSets
from jobs.storage.factory import open_storage
from jobs.storage.local import LocalStorage
from tests.engine.neuron_sets import make_neuron_set


class Disks:
    """The mount points of a machine: `/` and those that are added."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mounted = {Path("/")}
        monkeypatch.setattr(Path, "is_mount", lambda path: path in self.mounted)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(monkeypatch)


def test_a_folder_that_need_not_exist_is_on_the_next_disk_above_it(tmp_path: Path, disks: Disks) -> None:
    disks.mounted.add(tmp_path)
    mount = Mount(tmp_path / "not" / "yet")
    mount.check()
    disks.mounted.remove(tmp_path)
    with pytest.raises(Unavailable, match=f"the disk at {tmp_path} is no longer mounted; mount it again"):
        mount.check()
    Mount(tmp_path / "not" / "yet").check()


def test_no_file_is_lost_or_written_while_its_disk_is_away(tmp_path: Path, disks: Disks) -> None:
    disks.mounted.add(tmp_path)
    storage = LocalStorage(tmp_path / "results")
    with storage.writing("cells/a") as path:
        path.write_bytes(b"kept")
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    disks.mounted.remove(tmp_path)
    for read in (storage.read, storage.stat, storage.open, storage.names):
        with pytest.raises(Unavailable, match="no longer mounted"):
            read("cells/a")
    with pytest.raises(Unavailable), storage.writing("cells/b"):
        pass
    with pytest.raises(Unavailable):
        storage.publish_new("cells/b", b"new")
    assert not (tmp_path / "results").exists(), "nothing is written below the mount point"
    disks.mounted.add(tmp_path)
    with pytest.raises(NotFound):
        storage.read("cells/a")
    (tmp_path / "elsewhere").rename(tmp_path / "results")
    assert storage.read("cells/a") == b"kept"


def test_no_neuron_set_is_identified_again_while_its_disk_is_away(tmp_path: Path, disks: Disks) -> None:
    disks.mounted.add(tmp_path)
    sets, found = NeuronSets(tmp_path / "neurons"), make_neuron_set({"fr": [(0, 1)]})
    sets.publish(found.id, found.save)
    (tmp_path / "neurons").rename(tmp_path / "elsewhere")
    disks.mounted.remove(tmp_path)
    for look in (sets.has, sets.get, sets.fetch, lambda _: sets.infos(), lambda name: sets.publish(name, found.save)):
        with pytest.raises(Unavailable, match="no longer mounted"):
            look(found.id)
    (tmp_path / "elsewhere").rename(tmp_path / "neurons")
    disks.mounted.add(tmp_path)
    assert sets.has(found.id)


def test_nothing_is_written_where_a_moved_home_was(tmp_path: Path) -> None:
    """A new folder there would be in the way of the one that is moved back."""
    home, neuron_set = tmp_path / "home", make_neuron_set({"fr": [(0, 1)]})
    home.mkdir()
    results, parts = open_storage(str(home / "results")), open_storage(str(home / "results"), "parts")
    sets = NeuronSets(home / "neurons")
    sets.publish(neuron_set.id, neuron_set.save)
    home.rename(tmp_path / "elsewhere")
    moved = f"the folder {home} was moved or deleted; put it back, or restart the server"
    for storage in (results, parts):
        with pytest.raises(Unavailable, match=moved), storage.writing("a"):
            pass
        with pytest.raises(Unavailable, match=moved):
            storage.read("a")
    calls: list[Callable[[], object]] = [
        sets.infos,
        lambda: sets.get(neuron_set.id),
        lambda: sets.publish(neuron_set.id, neuron_set.save),
        lambda: sets.read_default("f"),
        lambda: sets.write_default("f", b"{}"),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=moved):
            call()
    assert not home.exists()
    (tmp_path / "elsewhere").rename(home)
    assert sets.has(neuron_set.id)


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    results, parts = open_storage(str(tmp_path / "results")), open_storage(str(tmp_path / "results"), "parts")
    for storage in (results, parts):
        storage.publish_new("a", b"1")
    shutil.rmtree(tmp_path / "results")
    assert parts.publish_new("a", b"2")
    assert parts.read("a") == b"2"
