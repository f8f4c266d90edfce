"""Neuron sets in an object store, each downloaded to a local folder when it is first used.

    <id>/metadata.json
    <id>/<sha256>/neurons.safetensors
    defaults/<fingerprint>.json

The metadata are uploaded last and name the arrays by their hash, so engines that publish the same set at the same time
never combine the metadata of one with the arrays of the other. A set never changes, so it is downloaded once. The
default of a model can change, so it is read each time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ampsweep.domain.neurons.neuron_set import METADATA_FILE
from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata
from ampsweep.errors import DamagedFile, NotFound
from ampsweep.files import atomic_write
from ampsweep.temporary import TemporaryFolder
from jobs.neuron_sets.registry import NeuronSetInfo, NeuronSets, cannot_save, damaged, default_name
from jobs.storage.factory import is_object_store, open_storage
from jobs.storage.protocol import Storage


class BucketNeuronSets(NeuronSets):
    """The neuron sets in one storage. They are downloaded to a temporary folder, which is deleted with this object."""

    def __init__(self, storage: Storage) -> None:
        self._temporary = TemporaryFolder("neurons")
        super().__init__(self._temporary.path)
        self._storage = storage

    def fetch(self, neuron_set_id: str) -> Path:
        """Return a local folder with the files of a set; without files if the set does not exist.

        Raises:
            Unavailable: if the storage cannot be reached.
            DamagedFile: if the metadata cannot be read.
        """
        folder = self.path(neuron_set_id)
        if self._fetch_metadata(neuron_set_id):
            for name in self._storage.names(f"{neuron_set_id}/{_digest(folder)}"):
                self._fetch(name, folder / Path(name).name)
        return folder

    def has(self, neuron_set_id: str) -> bool:
        """Return whether a set exists in the bucket; its metadata are downloaded."""
        self.path(neuron_set_id)
        return self._fetch_metadata(neuron_set_id)

    def publish(self, neuron_set_id: str, write: Callable[[Path], None]) -> None:
        """Upload a set, its metadata last; see `NeuronSets.publish`."""
        if self.has(neuron_set_id):
            return
        try:
            with TemporaryFolder("publish") as folder:
                write(folder)
                digest = _digest(folder)
                arrays = [path for path in sorted(folder.iterdir()) if path.name != METADATA_FILE]
                for path in arrays:
                    self._put(path, f"{neuron_set_id}/{digest}/{path.name}")
                self._put(folder / METADATA_FILE, f"{neuron_set_id}/{METADATA_FILE}")
        except OSError as error:
            raise cannot_save(neuron_set_id, self._storage.root, error) from error

    def infos(self) -> list[NeuronSetInfo]:
        """Return all sets, oldest first. Sets whose metadata cannot be read are logged and left out."""
        for name in self._storage.names():
            neuron_set_id, _, file = name.partition("/")
            if file == METADATA_FILE:
                self._fetch_metadata(neuron_set_id)
        return super().infos()

    def read_default(self, fingerprint: str) -> bytes | None:
        """Return the stored default of the model with a fingerprint; None if it has none."""
        try:
            return self._storage.read(default_name(fingerprint))
        except NotFound:
            return None

    def write_default(self, fingerprint: str, content: bytes | None) -> None:
        """Store the default of the model with a fingerprint; None deletes it."""
        if content is None:
            self._storage.delete(default_name(fingerprint))
            return
        with self._storage.writing(default_name(fingerprint)) as path:
            path.write_bytes(content)

    def get(self, neuron_set_id: str) -> NeuronSetInfo:
        """Return the metadata of a set; raises as `NeuronSets.get`."""
        self._fetch_metadata(neuron_set_id)
        try:
            return super().get(neuron_set_id)
        except DamagedFile:
            # Download the metadata again next time: they may be repaired in the bucket.
            (self.path(neuron_set_id) / METADATA_FILE).unlink(missing_ok=True)
            raise

    def _fetch_metadata(self, neuron_set_id: str) -> bool:
        """Download the metadata of a set; return whether the set exists."""
        try:
            self._fetch(f"{neuron_set_id}/{METADATA_FILE}", self.path(neuron_set_id) / METADATA_FILE)
        except NotFound:
            return False
        return True

    def _fetch(self, name: str, target: Path) -> None:
        if target.is_file():
            return
        info = self._storage.stat(name)
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as path:
            self._storage.download(name, path)
            os.utime(path, (info.modified, info.modified))

    def _put(self, source: Path, name: str) -> None:
        with self._storage.writing(name) as path:
            shutil.copyfile(source, path)


def _digest(folder: Path) -> str:
    """Return the hash of a set's arrays from its metadata."""
    try:
        return NeuronSetMetadata.parse((folder / METADATA_FILE).read_bytes()).sha256
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder.name, error) from error


def neuron_sets_at(address: str) -> NeuronSets:
    """Return the neuron sets in a folder or object store; `open_storage` defines the addresses."""
    return BucketNeuronSets(open_storage(address)) if is_object_store(address) else NeuronSets(Path(address))
