"""Registry of the neuron sets of this installation, from their `metadata.json`. Never reads the neurons themselves."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.domain.languages.codes import with_short_codes
from ampsweep.domain.neurons.layer_widths import Width
from ampsweep.domain.neurons.neuron_set import METADATA_FILE, NEURON_SET_ID
from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import DamagedFile, NotFound, Unavailable
from ampsweep.files import atomic_write, sync_folder, write_problem
from ampsweep.mounts import Mount

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]
_ID = re.compile(NEURON_SET_ID)
ABANDONED_SECONDS = 3600.0
"""Age at which an unpublished folder belongs to a process that was killed; publishing takes seconds."""


@dataclass(frozen=True, kw_only=True)
class NeuronSetInfo:
    """Metadata of a neuron set.

    Attributes:
        id: Id of the set.
        model: Name of the model that it was made for.
        fingerprint: Fingerprint of that model.
        method: Method that identified the neurons, or the kind of import.
        params: Parameters of the method.
        corpus: Name of the corpus.
        languages: Number of neurons of each language.
        layers: Number of layers of the model.
        width: Neurons of a layer, or one number for each layer where layers differ.
        patch: Patch values that were recorded.
        entropy: Whether the set has the entropy of each neuron, which the control `non_language` needs.
        residual: Statistics of the residual stream that were recorded: `mean`, or none.
        created_at: Time of creation, in seconds since 1970.
    """

    id: str
    model: str
    fingerprint: str
    method: str
    params: Mapping[str, Any]
    corpus: str
    languages: Mapping[str, int]
    layers: int
    width: Width
    patch: tuple[str, ...]
    entropy: bool
    residual: tuple[str, ...]
    created_at: float


class NeuronSets:
    """The neuron sets in one folder, each in a folder named by its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mount = Mount(folder)
        self._read: dict[str, tuple[_Stamp, NeuronSetInfo | DamagedFile]] = {}

    def path(self, neuron_set_id: str) -> Path:
        """Return the folder of a set, which need not exist; raise NotFound if the id is malformed."""
        if not _ID.fullmatch(neuron_set_id):
            raise NotFound(f"{neuron_set_id!r} is not the id of a neuron set", param="neurons.id")
        return self.folder / neuron_set_id

    def fetch(self, neuron_set_id: str) -> Path:
        """Return the local folder of a set with all of its files; without files if the set does not exist.

        Raises:
            Unavailable: if the disk of the sets is not mounted, or the folder that holds them was moved.
        """
        self._mount.check()
        return self.path(neuron_set_id)

    def has(self, neuron_set_id: str) -> bool:
        """Return whether a set exists, without reading it: a damaged one does too.

        Raises:
            Unavailable: if the disk of the sets is not mounted, or the folder that holds them was moved.
        """
        is_there = (self.path(neuron_set_id) / METADATA_FILE).is_file()
        if not is_there:
            self._mount.check()
        return is_there

    def publish(self, neuron_set_id: str, write: Callable[[Path], None]) -> None:
        """Publish a set atomically. A set that exists already is left unchanged.

        Args:
            neuron_set_id: Id of the set.
            write: Writes the files of the set to the folder that it is called with.

        Raises:
            Unavailable: if the disk is full, not mounted or cannot be written to, or if the folder that holds the
                sets was moved, which may be temporary.
        """
        self._mount.check()
        target = self.path(neuron_set_id)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _delete_abandoned(target.parent)
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{neuron_set_id}."))
            try:
                write(temporary)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_folder(target.parent)
        except OSError as error:
            if not target.is_dir():
                raise cannot_save(neuron_set_id, str(target.parent), error) from error

    def infos(self) -> list[NeuronSetInfo]:
        """Return all sets, oldest first. Sets whose metadata cannot be read are logged and left out."""
        infos = []
        for name in self._names():
            with suppress(NotFound, DamagedFile):
                infos.append(self._info(name))
        return sorted(infos, key=lambda info: (info.created_at, info.id))

    def made_for(self, fingerprint: str) -> list[NeuronSetInfo]:
        """Return the sets that were made for the model with a fingerprint, oldest first."""
        return [info for info in self.infos() if info.fingerprint == fingerprint]

    def damaged_ids(self) -> list[str]:
        """Return the ids of the sets whose metadata cannot be read, so that their model is unknown."""
        ids = []
        for name in self._names():
            try:
                self._info(name)
            except NotFound:
                continue
            except DamagedFile:
                ids.append(name)
        return ids

    def read_default(self, fingerprint: str) -> bytes | None:
        """Return the stored default of the model with a fingerprint; None if it has none."""
        try:
            return (self.folder / default_name(fingerprint)).read_bytes()
        except FileNotFoundError:
            self._mount.check()
            return None

    def write_default(self, fingerprint: str, content: bytes | None) -> None:
        """Store the default of the model with a fingerprint; None deletes it."""
        path = self.folder / default_name(fingerprint)
        if content is None:
            path.unlink(missing_ok=True)
            return
        self._mount.check()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    def get(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return the metadata of a set.

        Raises:
            NotFound: if the set does not exist.
            DamagedFile: if its metadata cannot be read.
        """
        return self._info(neuron_set_id)

    def _names(self) -> list[str]:
        """Return the ids of the sets in the folder, sorted."""
        self._mount.check()
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path.name for path in folders if _ID.fullmatch(path.name))

    def _info(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return the metadata of a set in the folder; the file is read again only after it has changed."""
        path = self.path(neuron_set_id) / METADATA_FILE
        try:
            stat = path.stat()
        except OSError:
            self._read.pop(neuron_set_id, None)
            self._mount.check()
            raise NotFound(f"no neuron set {neuron_set_id}", param="neurons.id") from None
        stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        cached = self._read.get(neuron_set_id)
        if cached is None or cached[0] != stamp:
            cached = self._read[neuron_set_id] = (stamp, _read_info(neuron_set_id, path, stat.st_mtime))
            if isinstance(cached[1], DamagedFile):
                log.warning("%s", cached[1])
        if isinstance(cached[1], DamagedFile):
            raise DamagedFile(cached[1].message)
        return cached[1]


def _delete_abandoned(folder: Path) -> None:
    """Delete what killed processes began to publish."""
    for path in folder.glob(".ns_*"):
        with suppress(OSError):  # deleted meanwhile
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def cannot_save(neuron_set_id: str, address: str, error: OSError) -> Unavailable:
    """Return the error for a set that could not be written because the disk is full or read-only."""
    return Unavailable(f"neuron set {neuron_set_id} cannot be saved below {address}: {write_problem(error)}")


def _read_info(neuron_set_id: str, path: Path, modified: float) -> NeuronSetInfo | DamagedFile:
    try:
        metadata = NeuronSetMetadata.parse(path.read_bytes())
        return NeuronSetInfo(
            id=neuron_set_id,
            model=metadata.model,
            fingerprint=metadata.fingerprint,
            method=metadata.method,
            params=metadata.params,
            corpus=metadata.corpus,
            languages=with_short_codes(metadata.languages),
            layers=metadata.layers,
            width=metadata.width,
            patch=metadata.patch,
            entropy=metadata.entropy,
            residual=metadata.residual,
            created_at=modified,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        return damaged(neuron_set_id, error)


def damaged(neuron_set_id: str, error: Exception) -> DamagedFile:
    """Return the error for a set whose metadata cannot be read."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    message = f"{METADATA_FILE} of neuron set {neuron_set_id} cannot be read: {reason}"
    return DamagedFile(f"{message}; delete the set, then identify or import it again")


def default_name(fingerprint: str) -> str:
    """Return the path, relative to the folder of all sets, of the file with a model's default."""
    return f"defaults/{fingerprint}.json"
