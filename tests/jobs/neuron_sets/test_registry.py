from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from ampsweep.errors import DamagedFile, NotFound
from engine.neurons.neuron_set import NeuronSet, PatchValues
from jobs.neuron_sets.registry import ABANDONED_SECONDS, NeuronSets
from jobs.planning.catalog import Catalog


def save_set(
    sets: NeuronSets, catalog: Catalog, *, name: str = "ns_1", patch: bool = True, model_fingerprint: str = ""
) -> NeuronSet:
    """Save a set as the engine does: no neurons of English, one of French."""
    values = np.zeros((2, 3, 8), np.float32)
    neuron_set = NeuronSet(
        id="ns_1",
        model="tiny",
        fingerprint=model_fingerprint or catalog.model("tiny").fingerprint,
        layers=3,
        width=8,
        method="lape",
        corpus="small",
        neurons={"en": np.zeros((0, 2), np.int32), "fr": np.array([[0, 1]], np.int32)},
        patch=PatchValues(max=values, median=values, mean=values) if patch else None,
    )
    neuron_set.save(sets.folder / neuron_set.id)
    return neuron_set


@pytest.fixture
def sets(tmp_path: Path) -> NeuronSets:
    return NeuronSets(tmp_path / "neurons")


def test_what_the_engine_saves_is_listed(sets: NeuronSets, catalog: Catalog) -> None:
    assert sets.infos() == []
    saved = save_set(sets, catalog)
    info = sets.get("ns_1")
    assert sets.infos() == [info]
    assert (info.languages, info.layers, info.width) == ({"en": 0, "fr": 1}, saved.layers, saved.width)
    assert (info.model, info.method, info.patch) == ("tiny", "lape", ("max", "median", "mean"))
    assert sets.path("ns_1").is_dir()


def test_whether_a_set_exists_is_known_without_reading_it(
    sets: NeuronSets, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not sets.has("ns_1")
    save_set(sets, catalog)
    monkeypatch.setattr("jobs.neuron_sets.registry.NeuronSetMetadata.parse", lambda _text: pytest.fail("it was read"))
    assert sets.has("ns_1")
    with pytest.raises(NotFound, match="is not the id"):
        sets.has("../ns_1")


@pytest.mark.parametrize("name", ["", "ns_", "ns_../..", "/etc", "ns_a/b", "ns_a\n"])
def test_what_cannot_be_an_id_never_touches_the_disk(sets: NeuronSets, name: str) -> None:
    with pytest.raises(NotFound, match="is not the id"):
        sets.get(name)


def test_an_unknown_id_is_not_found(sets: NeuronSets) -> None:
    with pytest.raises(NotFound, match="no neuron set ns_9"):
        sets.get("ns_9")


def test_damaged_metadata_is_an_error(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    (sets.path("ns_1") / "metadata.json").write_text("{}")
    with pytest.raises(DamagedFile, match="ns_1"):
        sets.get("ns_1")


def test_a_damaged_set_is_rejected_only_when_it_is_read(sets: NeuronSets, catalog: Catalog) -> None:
    save_set(sets, catalog)
    (sets.folder / "ns_2").mkdir()
    (sets.folder / "ns_2" / "metadata.json").write_text("{")
    assert sets.get("ns_1").patch
    with pytest.raises(DamagedFile, match=r"metadata\.json of neuron set ns_2 cannot be read"):
        sets.get("ns_2")
    assert [info.id for info in sets.infos()] == ["ns_1"]


def test_what_a_killed_process_began_to_publish_is_deleted(sets: NeuronSets) -> None:
    killed, writing = sets.folder / ".ns_1.abc", sets.folder / ".ns_2.def"
    for folder in (killed, writing):
        folder.mkdir(parents=True)
        (folder / "neurons.npz").write_bytes(b"half")
    long_ago = time.time() - ABANDONED_SECONDS - 60
    os.utime(killed, (long_ago, long_ago))
    sets.publish("ns_3", lambda folder: (folder / "neurons.npz").touch())
    assert sorted(path.name for path in sets.folder.iterdir()) == [".ns_2.def", "ns_3"]
