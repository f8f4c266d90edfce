"""Presets are stored whole, read back equal, and never replaced by another of the same name."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import Conflict, DamagedFile, NotFound
from jobs.presets import Preset, Presets
from jobs.storage.factory import open_storage
from jobs.storage.local import LocalStorage

FRENCH = Intervention.from_dict({"languages": ["fr"], "op": "set", "patch": "max", "layers": [2, 1]})
TURKISH = Intervention.from_dict({"languages": {"tr": 0.5}, "op": "add", "statistic": "p97.5", "factor": 2})


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(open_storage(str(tmp_path / "presets")))


def test_presets_are_read_back_as_they_were_stored(presets: Presets) -> None:
    assert presets.all() == []
    stored = [
        Preset(name="a.b", intervention=FRENCH),
        Preset(name="tr", intervention=TURKISH, neurons="ns_1", model="atlas"),
    ]
    for preset in reversed(stored):
        presets.create(preset)
    assert presets.all() == stored
    assert presets.get("tr") == stored[1]


def test_a_name_is_given_once(presets: Presets) -> None:
    presets.create(Preset(name="fr", intervention=FRENCH))
    presets.create(Preset(name="fr", intervention=FRENCH))
    for other in (Preset(name="fr", intervention=TURKISH), Preset(name="fr", intervention=FRENCH, model="atlas")):
        with pytest.raises(Conflict, match="another preset is called 'fr'"):
            presets.create(other)
    assert presets.get("fr").intervention == FRENCH


class Meeting(LocalStorage):
    """A folder in which two readers who find no file wait for each other, for a moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._barrier = Barrier(2)

    def read(self, name: str) -> bytes:
        try:
            return super().read(name)
        except NotFound:
            with suppress(BrokenBarrierError):
                self._barrier.wait(timeout=0.05)
            raise


class MeetingInABucket(Meeting):
    """One that publishes as an object store does, which cannot exclude other writers."""

    def publish_new(self, name: str, content: bytes) -> bool:
        with self.writing(name) as path:
            path.write_bytes(content)
        return True


@pytest.mark.parametrize(("kind", "servers"), [(Meeting, 1), (Meeting, 2), (MeetingInABucket, 1)])
def test_of_two_presets_that_are_stored_at_the_same_time_one_gets_the_name(
    kind: type[Meeting], servers: int, tmp_path: Path
) -> None:
    storage = kind(tmp_path / "presets")
    of_servers = [Presets(storage) for _ in range(servers)]
    offered = [Preset(name="fr", intervention=intervention) for intervention in (FRENCH, TURKISH)]

    def create(index: int) -> Preset | None:
        try:
            of_servers[index % servers].create(offered[index])
        except Conflict:
            return None
        return offered[index]

    with ThreadPoolExecutor(2) as threads:
        created = [preset for preset in threads.map(create, range(2)) if preset is not None]
    assert created == [of_servers[0].get("fr")]
    assert of_servers[0].all() == created


def test_a_deleted_preset_is_gone(presets: Presets) -> None:
    presets.create(Preset(name="fr", intervention=FRENCH))
    presets.delete("fr")
    for call in (presets.get, presets.delete):
        with pytest.raises(NotFound, match="no preset 'fr'"):
            call("fr")


def test_a_name_leads_to_no_other_folder(presets: Presets, tmp_path: Path) -> None:
    folder = tmp_path / "presets" / "fr.."
    folder.mkdir(parents=True)
    (folder / "fr.json").write_text(json.dumps(Preset(name="fr", intervention=FRENCH).to_dict()))
    for name in ("fr../fr", "../fr", "", ".hidden", "fr\n"):
        with pytest.raises(NotFound, match="there is no preset"):
            presets.get(name)


@pytest.mark.parametrize("content", ["{", "{}", '{"name": "fr", "intervention": 3, "neurons": null, "model": null}'])
def test_a_damaged_preset_is_named_and_can_be_deleted(content: str, presets: Presets, tmp_path: Path) -> None:
    other = Preset(name="tr", intervention=TURKISH)
    for preset in (Preset(name="fr", intervention=FRENCH), other):
        presets.create(preset)
    (tmp_path / "presets" / "fr.json").write_text(content)
    with pytest.raises(DamagedFile, match="'fr' cannot be read"):
        presets.get("fr")
    assert presets.all() == [other], "one damaged file does not hide the other presets"
    presets.delete("fr")
    presets.create(Preset(name="fr", intervention=TURKISH))
    assert presets.get("fr").intervention == TURKISH


def test_a_preset_steers_every_model_or_one() -> None:
    assert Preset(name="fr", intervention=FRENCH).names(["a", "b"]) == ["a+fr", "b+fr"]
    assert Preset(name="fr", intervention=FRENCH, model="b").names(["a", "b"]) == ["b+fr"]
    assert Preset(name="fr", intervention=FRENCH, model="c").names(["a", "b"]) == []
