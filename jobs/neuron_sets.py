"""The neuron sets of this installation, as their `metadata.json` tells of them. Never reads the neurons themselves."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import DamagedFile, NotFound
from ampsweep.files import sync_folder

METADATA = "metadata.json"
_ID = re.compile(r"ns_[0-9A-Za-z_-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class NeuronSetInfo:
    """One set: the model it was made for, how, and how many neurons each language has."""

    id: str
    model: str
    fingerprint: str
    method: str
    params: Mapping[str, Any]
    corpus: str
    languages: Mapping[str, int]
    layers: int
    width: int
    patch: tuple[str, ...]
    created_at: float


class NeuronSets:
    """The sets below one folder, each in a folder named by its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, neuron_set_id: str) -> Path:
        """Return the folder of a set, which need not be there yet; NotFound for what cannot be an id."""
        if not _ID.fullmatch(neuron_set_id):
            raise NotFound(f"{neuron_set_id!r} is no id of a neuron set", param="neurons.id")
        return self.folder / neuron_set_id

    def fetch(self, neuron_set_id: str) -> Path:
        """Return the folder of a set with all its files in it, as far as there is such a set."""
        return self.path(neuron_set_id)

    def publish(self, neuron_set_id: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill a folder, and make it the set's: whole or not at all.

        Where the set is there by then, it stays as it is.
        """
        target = self.path(neuron_set_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{neuron_set_id}."))
        try:
            write(beside)
            beside.chmod(0o755)
            beside.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        sync_folder(target.parent)

    def infos(self) -> list[NeuronSetInfo]:
        """Return all sets, oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        names = [path.name for path in found if _ID.fullmatch(path.name) and (path / METADATA).is_file()]
        return sorted(map(self.get, names), key=lambda info: (info.created_at, info.id))

    def made_for(self, fingerprint: str) -> list[NeuronSetInfo]:
        """Return the sets that can steer the model with a fingerprint, oldest first."""
        return [info for info in self.infos() if info.fingerprint == fingerprint]

    def get(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return one set; NotFound if there is none, DamagedFile where its metadata cannot be read."""
        path = self.path(neuron_set_id) / METADATA
        if not path.is_file():
            raise NotFound(f"no neuron set {neuron_set_id}", param="neurons.id")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return NeuronSetInfo(
                id=neuron_set_id,
                model=raw["model"],
                fingerprint=raw["fingerprint"],
                method=raw["method"],
                params=raw["params"],
                corpus=raw["corpus"],
                languages=dict(raw["languages"]),
                layers=raw["layers"],
                width=raw["width"],
                patch=tuple(raw["patch"]),
                created_at=path.stat().st_mtime,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"{METADATA} of neuron set {neuron_set_id} cannot be read: {error}") from error
