"""Neuron sets in an object store, each fetched into a folder of this machine when it is first used.

    <id>/metadata.json
    <id>/<sha256>/neurons.safetensors
    defaults/<fingerprint>.json

The metadata come last and name the arrays by their hash, so engines that publish the same set at the same time never
leave one's metadata beside the other's arrays. A set never changes, so what has been fetched is never asked for again.
A model's default does change, so it is read each time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from ampsweep.errors import DamagedFile, NotFound
from ampsweep.files import atomic_write
from jobs.neuron_sets.registry import METADATA, NeuronSetInfo, NeuronSets, cannot_save, damaged, default_name
from jobs.storage.factory import is_object_store, open_storage
from jobs.storage.protocol import Storage


class BucketNeuronSets(NeuronSets):
    """The sets in one storage; its own folder is a temporary one, which ends with it."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="ampsweep-neurons-")))
        self._storage = storage
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def fetch(self, neuron_set_id: str) -> Path:
        """Return a local folder with a set's files, as far as there is such a set.

        Unavailable while the storage is out of reach, DamagedFile where the metadata cannot be read.
        """
        folder = self.path(neuron_set_id)
        if self._fetch_metadata(neuron_set_id):
            for name in self._storage.names(f"{neuron_set_id}/{_digest(folder)}"):
                self._fetch(name, folder / Path(name).name)
        return folder

    def publish(self, neuron_set_id: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill a folder and upload it, its metadata last; a set that is there by then stays as it is."""
        self.path(neuron_set_id)
        if self._fetch_metadata(neuron_set_id):
            return
        try:
            with tempfile.TemporaryDirectory(prefix="ampsweep-") as made:
                folder = Path(made)
                write(folder)
                digest = _digest(folder)
                others = [path for path in sorted(folder.iterdir()) if path.name != METADATA]
                for path in others:
                    self._put(path, f"{neuron_set_id}/{digest}/{path.name}")
                self._put(folder / METADATA, f"{neuron_set_id}/{METADATA}")
        except OSError as error:
            raise cannot_save(neuron_set_id, self._storage.root, error) from error

    def infos(self) -> list[NeuronSetInfo]:
        """Return all sets, oldest first, but those whose metadata cannot be read: the log names them."""
        for name in self._storage.names():
            neuron_set_id, _, file = name.partition("/")
            if file == METADATA:
                self._fetch_metadata(neuron_set_id)
        return super().infos()

    def read_default(self, fingerprint: str) -> bytes | None:
        """Return what was written as the default of the model with a fingerprint; None where there is none."""
        try:
            return self._storage.read(default_name(fingerprint))
        except NotFound:
            return None

    def write_default(self, fingerprint: str, content: bytes | None) -> None:
        """Write the default of the model with a fingerprint, or (None) remove it."""
        if content is None:
            self._storage.delete(default_name(fingerprint))
            return
        with self._storage.writing(default_name(fingerprint)) as path:
            path.write_bytes(content)

    def get(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return one set; NotFound if there is none, DamagedFile where its metadata cannot be read."""
        self._fetch_metadata(neuron_set_id)
        try:
            return super().get(neuron_set_id)
        except DamagedFile:
            (self.path(neuron_set_id) / METADATA).unlink(missing_ok=True)  # it may be repaired in the bucket
            raise

    def _fetch_metadata(self, neuron_set_id: str) -> bool:
        """Fetch what says that a set is there; return whether it is."""
        try:
            self._fetch(f"{neuron_set_id}/{METADATA}", self.path(neuron_set_id) / METADATA)
        except NotFound:
            return False
        return True

    def _fetch(self, name: str, target: Path) -> None:
        if target.is_file():
            return
        found = self._storage.stat(name)
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as path:
            with self._storage.open(name) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1024 * 1024)
            os.utime(path, (found.modified, found.modified))

    def _put(self, source: Path, name: str) -> None:
        with self._storage.writing(name) as path:
            shutil.copyfile(source, path)


def _digest(folder: Path) -> str:
    """Return the hash of the arrays that a set's metadata name."""
    try:
        return str(json.loads((folder / METADATA).read_bytes())["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder.name, error) from error


def neuron_sets_at(address: str) -> NeuronSets:
    """Return the neuron sets in a folder or below a prefix of an object store, as `open_storage` takes them."""
    return BucketNeuronSets(open_storage(address)) if is_object_store(address) else NeuronSets(Path(address))
