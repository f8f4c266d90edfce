"""Neuron sets in a folder and in a bucket have the same guarantees, also if engines publish one set concurrently."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import DamagedFile, NotFound, Unavailable
from jobs.neuron_sets.bucket import BucketNeuronSets, neuron_sets_at
from jobs.neuron_sets.registry import NeuronSets
from jobs.storage.factory import open_storage
from tests.object_store import ObjectStore

ARRAYS = "neurons.safetensors"


def writer(arrays: bytes, model: str = "tiny") -> Callable[[Path], None]:
    """What `NeuronSet.save` does, with the arrays as they are given."""

    def write(folder: Path) -> None:
        (folder / ARRAYS).write_bytes(arrays)
        metadata = NeuronSetMetadata(
            id="ns_written",
            model=model,
            fingerprint="f",
            method="lape",
            params={},
            corpus="small",
            corpus_hash="c",
            languages={"fr": 2},
            layers=3,
            width=8,
            patch=(),
            sha256=hashlib.sha256(arrays).hexdigest(),
        )
        (folder / "metadata.json").write_text(metadata.to_json())

    return write


def pair(sets: NeuronSets, neuron_set_id: str) -> tuple[str, bytes]:
    """The hash that the metadata name, and the arrays that lie beside them."""
    folder = sets.fetch(neuron_set_id)
    return json.loads((folder / "metadata.json").read_text())["sha256"], (folder / ARRAYS).read_bytes()


def test_a_published_set_is_visible_to_all_readers(address: str) -> None:
    neuron_sets_at(address).publish("ns_1", writer(b"one"))
    other = neuron_sets_at(address)
    assert (other.has("ns_1"), other.has("ns_2")) == (True, False)
    assert [info.id for info in other.infos()] == ["ns_1"]
    assert (other.get("ns_1").model, dict(other.get("ns_1").languages)) == ("tiny", {"fr": 2})
    assert pair(other, "ns_1") == (hashlib.sha256(b"one").hexdigest(), b"one")


def test_the_first_publisher_wins(address: str) -> None:
    first, second = neuron_sets_at(address), neuron_sets_at(address)
    first.publish("ns_1", writer(b"one"))
    second.publish("ns_1", writer(b"two"))
    for sets in (first, second, neuron_sets_at(address)):
        assert pair(sets, "ns_1")[1] == b"one"


def test_a_writer_that_fails_publishes_nothing(address: str) -> None:
    def fail(folder: Path) -> None:
        (folder / ARRAYS).write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(Unavailable, match=r"neuron set ns_1 cannot be saved below .*no space"):
        neuron_sets_at(address).publish("ns_1", fail)
    assert neuron_sets_at(address).infos() == []
    with pytest.raises(NotFound):
        neuron_sets_at(address).get("ns_1")


@pytest.mark.processes
def test_publishers_at_the_same_time_leave_arrays_and_metadata_of_one_of_them(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the other's arrays and metadata a whole set is published: the worst order there is."""
    faster, slower = BucketNeuronSets(open_storage(bucket)), BucketNeuronSets(open_storage(bucket))
    put = slower._put

    def interrupted(source: Path, name: str) -> None:
        if source.name == "metadata.json":
            faster.publish("ns_1", writer(b"faster"))
        put(source, name)

    monkeypatch.setattr(slower, "_put", interrupted)
    slower.publish("ns_1", writer(b"slower"))
    for sets in (faster, slower, neuron_sets_at(bucket)):
        digest, arrays = pair(sets, "ns_1")
        assert hashlib.sha256(arrays).hexdigest() == digest


@pytest.mark.processes
def test_sets_are_listed_oldest_first_and_fetched_once(bucket: str, object_store_server: ObjectStore) -> None:
    for name in ("ns_b", "ns_a"):
        neuron_sets_at(bucket).publish(name, writer(name.encode()))
    sets = neuron_sets_at(bucket)
    assert {info.id for info in sets.infos()} == {"ns_a", "ns_b"}
    os.utime(sets.path("ns_b") / "metadata.json", (1e9, 1e9))
    assert [info.id for info in sets.infos()] == ["ns_b", "ns_a"]
    sets.fetch("ns_a")
    object_store_server.requests.clear()
    sets.infos()
    assert len(object_store_server.requests) == 1, "the listing"
    sets.get("ns_a")
    assert len(object_store_server.requests) == 1


@pytest.mark.processes
@pytest.mark.parametrize("name", ["../x", "x", "", "ns_", "ns_a/b"])
def test_what_cannot_be_an_id_is_never_asked_for(bucket: str, object_store_server: ObjectStore, name: str) -> None:
    sets = neuron_sets_at(bucket)
    object_store_server.requests.clear()
    for look in (sets.fetch, sets.get, lambda it: sets.publish(it, writer(b""))):
        with pytest.raises(NotFound):
            look(name)
    assert object_store_server.requests == []


@pytest.mark.processes
def test_damaged_metadata_is_an_error(bucket: str) -> None:
    with open_storage(bucket).writing("ns_1/metadata.json") as path:
        path.write_text("{}")
    with pytest.raises(DamagedFile, match="ns_1"):
        neuron_sets_at(bucket).get("ns_1")
    with pytest.raises(DamagedFile, match="ns_1"):
        neuron_sets_at(bucket).fetch("ns_1")


def test_a_damaged_set_can_be_repaired_and_does_not_affect_the_others(address: str) -> None:
    sets, writing = neuron_sets_at(address), open_storage(address)
    sets.publish("ns_1", writer(b"one"))
    sets.publish("ns_2", writer(b"two"))
    assert len(sets.infos()) == 2
    good = writing.read("ns_1/metadata.json")
    for other in (sets, neuron_sets_at(address)) if sets.folder == Path(address) else (neuron_sets_at(address),):
        for damage in (b"{", b"[]", b'{"model": "tiny"}', b"\xff"):
            with writing.writing("ns_1/metadata.json") as path:
                path.write_bytes(damage)
            assert [info.id for info in other.infos()] == ["ns_2"]
            with pytest.raises(DamagedFile, match=r"ns_1 cannot be read: .*; delete the set, then identify"):
                other.get("ns_1")
        with writing.writing("ns_1/metadata.json") as path:
            path.write_bytes(good)
        assert (other.get("ns_1").model, len(other.infos())) == ("tiny", 2)


def test_metadata_are_read_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = neuron_sets_at(address)
    sets.publish("ns_1", writer(b"one"))
    first = sets.get("ns_1")
    monkeypatch.setattr("jobs.neuron_sets.registry.NeuronSetMetadata.parse", lambda _text: pytest.fail("it was read"))
    assert sets.get("ns_1") is first
    assert sets.infos()[0] is first


@pytest.mark.processes
def test_its_folder_ends_with_it(bucket: str) -> None:
    sets = neuron_sets_at(bucket)
    sets.publish("ns_1", writer(b"one"))
    folder = sets.fetch("ns_1")
    assert folder.is_dir()
    del sets
    assert not folder.exists()
