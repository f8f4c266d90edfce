"""The neuron sets of this installation, as their `metadata.json` tells of them. Never reads the neurons themselves."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.domain.languages import with_short_codes
from ampsweep.errors import DamagedFile, NotFound, Unavailable
from ampsweep.files import atomic_write, sync_folder

log = logging.getLogger(__name__)

METADATA = "metadata.json"
_Stamp = tuple[int, int, int, int]
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
        self._read: dict[str, tuple[_Stamp, NeuronSetInfo | DamagedFile]] = {}

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

        Where the set is there by then, it stays as it is. Unavailable where the disk is full or cannot be written to:
        that may pass.
        """
        target = self.path(neuron_set_id)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{neuron_set_id}."))
            try:
                write(beside)
                beside.chmod(0o755)
                beside.rename(target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            sync_folder(target.parent)
        except OSError as error:
            if not target.is_dir():
                raise cannot_save(neuron_set_id, str(target.parent), error) from error

    def infos(self) -> list[NeuronSetInfo]:
        """Return all sets, oldest first, but those whose metadata cannot be read: the log names them."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        infos = []
        for name in [path.name for path in found if _ID.fullmatch(path.name)]:
            with suppress(NotFound, DamagedFile):
                infos.append(self._info(name))
        return sorted(infos, key=lambda info: (info.created_at, info.id))

    def made_for(self, fingerprint: str) -> list[NeuronSetInfo]:
        """Return the sets that can steer the model with a fingerprint, oldest first."""
        return [info for info in self.infos() if info.fingerprint == fingerprint]

    def damaged_ids(self) -> list[str]:
        """Return the ids of the sets whose metadata cannot be read: for which model they were made is unknown."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        ids = []
        for name in sorted(path.name for path in found if _ID.fullmatch(path.name)):
            try:
                self._info(name)
            except NotFound:
                continue
            except DamagedFile:
                ids.append(name)
        return ids

    def read_default(self, fingerprint: str) -> bytes | None:
        """Return what was written as the default of the model with a fingerprint; None where there is none."""
        try:
            return (self.folder / default_name(fingerprint)).read_bytes()
        except FileNotFoundError:
            return None

    def write_default(self, fingerprint: str, content: bytes | None) -> None:
        """Write the default of the model with a fingerprint, or (None) remove it."""
        path = self.folder / default_name(fingerprint)
        if content is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    def get(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return one set; NotFound if there is none, DamagedFile where its metadata cannot be read."""
        return self._info(neuron_set_id)

    def _info(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return what is in a set's metadata here, which are read again only when the file has changed."""
        path = self.path(neuron_set_id) / METADATA
        try:
            stat = path.stat()
        except OSError:
            self._read.pop(neuron_set_id, None)
            raise NotFound(f"no neuron set {neuron_set_id}", param="neurons.id") from None
        stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        known = self._read.get(neuron_set_id)
        if known is None or known[0] != stamp:
            known = self._read[neuron_set_id] = (stamp, _read_info(neuron_set_id, path, stat.st_mtime))
            if isinstance(known[1], DamagedFile):
                log.warning("%s", known[1])
        if isinstance(known[1], DamagedFile):
            raise DamagedFile(known[1].message)
        return known[1]


def cannot_save(neuron_set_id: str, place: str, error: OSError) -> Unavailable:
    """Return the error of a set that a full or read-only disk did not take."""
    return Unavailable(f"neuron set {neuron_set_id} cannot be saved below {place}: {error.strerror or error}")


def _read_info(neuron_set_id: str, path: Path, modified: float) -> NeuronSetInfo | DamagedFile:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return NeuronSetInfo(
            id=neuron_set_id,
            model=raw["model"],
            fingerprint=raw["fingerprint"],
            method=raw["method"],
            params=raw["params"],
            corpus=raw["corpus"],
            languages=with_short_codes(raw["languages"]),
            layers=raw["layers"],
            width=raw["width"],
            patch=tuple(raw["patch"]),
            created_at=modified,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        return damaged(neuron_set_id, error)


def damaged(neuron_set_id: str, error: Exception) -> DamagedFile:
    """Return the error of a set whose metadata cannot be read."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return DamagedFile(
        f"{METADATA} of neuron set {neuron_set_id} cannot be read: {reason}; remove the set, and make it again"
    )


def default_name(fingerprint: str) -> str:
    """Return the name, below the folder of all sets, of the file that holds a model's default."""
    return f"defaults/{fingerprint}.json"
