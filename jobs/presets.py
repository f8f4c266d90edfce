"""Presets: interventions by name, for clients that cannot send one.

A preset is one file in the storage, so all servers on one storage share them. It is chosen by the name of a model,
`MODEL+PRESET`, or by its own name alone if it belongs to one model.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import AmpsweepError, Conflict, DamagedFile, NotFound
from jobs.storage.protocol import Storage

PRESETS = "presets"
"""Name of the folder of these files, within the folder of the neuron sets."""
NAME_PATTERN = r"^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$"
"""Names, which are those of files. None has a `+`."""
_SUFFIX = ".json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An intervention with a name.

    Attributes:
        name: The name, see `NAME_PATTERN`.
        intervention: The intervention.
        neurons: Id of its neuron set; None is the default of the model that it steers.
        model: The only model that it steers; None steers every model.
    """

    name: str
    intervention: Intervention
    neurons: str | None = None
    model: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the preset as JSON, as it is stored and returned by REST."""
        return {
            "name": self.name,
            "intervention": self.intervention.to_dict(),
            "neurons": self.neurons,
            "model": self.model,
        }

    def names(self, models: Collection[str]) -> list[str]:
        """Return the names of models under which clients can choose the preset."""
        steered = models if self.model is None else [self.model] if self.model in models else []
        return [f"{model}+{self.name}" for model in steered]


class Presets:
    """The presets of a storage. Its methods block, and raise Unavailable while the storage cannot be reached."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._creating = Lock()

    def all(self) -> list[Preset]:
        """Return all presets by name. One whose file cannot be read is logged and left out."""
        presets = []
        for file in self._storage.names():
            try:
                presets.append(self.get(file.removesuffix(_SUFFIX)))
            except NotFound:  # deleted meanwhile, or another file
                continue
            except DamagedFile as error:
                log.warning("%s", error.message)
        return presets

    def get(self, name: str) -> Preset:
        """Return a preset.

        Raises:
            NotFound: There is none with this name.
            DamagedFile: Its file cannot be read.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise _no_preset(name)
        try:
            content = self._storage.read(f"{name}{_SUFFIX}")
        except NotFound as error:
            raise _no_preset(name) from error
        try:
            raw = json.loads(content)
            return Preset(**{**raw, "intervention": Intervention.restore(raw["intervention"])})
        except (ValueError, KeyError, TypeError, AmpsweepError) as error:
            message = f"the preset {name!r} cannot be read ({error}); delete it and create it again"
            raise DamagedFile(message, param="name") from error

    def create(self, preset: Preset) -> None:
        """Store a preset; storing the same one again changes nothing.

        Of several that are stored at the same time, one gets the name.

        Raises:
            Conflict: Another preset has the name (param "name").
        """
        with self._creating:
            try:
                existing = self.get(preset.name)
            except NotFound:
                content = json.dumps(preset.to_dict(), ensure_ascii=False).encode()
                self._storage.publish_new(f"{preset.name}{_SUFFIX}", content)
                existing = self.get(preset.name)  # that of another server, if it was faster
        if existing != preset:
            raise Conflict(f"another preset is called {preset.name!r}; delete it, or choose another name", param="name")

    def delete(self, name: str) -> None:
        """Delete a preset, readable or not.

        Raises:
            NotFound: There is none with this name.
        """
        if f"{name}{_SUFFIX}" not in self._storage.names():
            raise _no_preset(name)
        self._storage.delete(f"{name}{_SUFFIX}")


def _no_preset(name: str) -> NotFound:
    return NotFound(f"there is no preset {name!r}; GET /v1/interventions lists them", param="name")
