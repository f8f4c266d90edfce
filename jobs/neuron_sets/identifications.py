"""Status of identifications in progress or failed, shared by all servers on one storage.

Each identification has a small file beside the sets, which its server rewrites as a heartbeat. An identification whose
file is older than LEASE has lost its server and counts as failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, EngineFailed, NotFound, from_code
from jobs.clock import Clock
from jobs.execution import IdentificationStatus
from jobs.storage.protocol import Storage

IDENTIFYING = "identifying"
"""Name of the folder of these files, within the folder of the sets."""
HEARTBEAT_SECONDS = 10.0
"""Seconds between two heartbeats of an identification."""
LEASE = 60.0
"""Seconds without a heartbeat after which an identification has failed; clocks of servers must differ by less."""


class Identifications:
    """The identifications in one storage. Methods may block."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def heartbeat(
        self, neuron_set_id: str, progress: RecordingProgress | None = None, model: str | None = None
    ) -> None:
        """Record that a set of a model is being identified now, and how far that is."""
        self._write(neuron_set_id, IdentificationStatus(error=None, progress=progress, model=model))

    def fail(self, neuron_set_id: str, error: AmpsweepError, model: str | None = None) -> None:
        """Record why an identification failed."""
        self._write(neuron_set_id, IdentificationStatus(error=error, model=model))

    def forget(self, neuron_set_id: str) -> None:
        """Delete the status of an identification, because its set exists."""
        self._storage.delete(_name(neuron_set_id))

    def all(self) -> Mapping[str, IdentificationStatus]:
        """Return the status of every identification, by the id of its set."""
        ids = [name.removesuffix(".json") for name in self._storage.names() if name.endswith(".json")]
        statuses = {neuron_set_id: self.get(neuron_set_id) for neuron_set_id in ids}
        return {neuron_set_id: status for neuron_set_id, status in statuses.items() if status is not None}

    def get(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return the status of an identification; None if there is none."""
        try:
            raw = json.loads(self._storage.read(_name(neuron_set_id)))
            heartbeat, error, model = float(raw["at"]), raw["error"], raw.get("model")
            progress = raw.get("progress") and RecordingProgress.from_dict(raw["progress"])
            if error is not None:
                failure = from_code(error["code"], error["message"], param=error["param"])
                return IdentificationStatus(error=failure, model=model)
        except (NotFound, ValueError, KeyError, TypeError):
            return None
        if abs(self._clock.now() - heartbeat) > LEASE:  # a heartbeat of the future is one before the clock was set back
            lost = EngineFailed("the server that was identifying the set has ended; send the request again")
            return IdentificationStatus(error=lost, model=model)
        return IdentificationStatus(error=None, progress=progress, model=model)

    def _write(self, neuron_set_id: str, status: IdentificationStatus) -> None:
        error, progress = status.error, status.progress
        reason = None if error is None else {"code": error.code, "message": error.message, "param": error.param}
        with self._storage.writing(_name(neuron_set_id)) as path:
            content = {
                "at": self._clock.now(),
                "error": reason,
                "progress": None if progress is None else progress.to_dict(),
                "model": status.model,
            }
            path.write_text(json.dumps(content), encoding="utf-8")


def _name(neuron_set_id: str) -> str:
    return f"{neuron_set_id}.json"
