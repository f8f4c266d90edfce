"""Status of identifications in progress or failed, shared by all servers on one storage.

Each identification has a small file beside the sets, which its server rewrites as a heartbeat. An identification whose
file is older than LEASE has lost its server and counts as failed.
"""

from __future__ import annotations

import json

from ampsweep.domain.recording_progress import RecordingProgress
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

    def heartbeat(self, neuron_set_id: str, progress: RecordingProgress | None = None) -> None:
        """Record that a set is being identified now, and how far that is."""
        self._write(neuron_set_id, None, progress)

    def fail(self, neuron_set_id: str, error: AmpsweepError) -> None:
        """Record why an identification failed."""
        self._write(neuron_set_id, error)

    def forget(self, neuron_set_id: str) -> None:
        """Delete the status of an identification, because its set exists."""
        self._storage.delete(_name(neuron_set_id))

    def get(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return the status of an identification; None if there is none."""
        try:
            raw = json.loads(self._storage.read(_name(neuron_set_id)))
            heartbeat, error = float(raw["at"]), raw["error"]
            progress = raw.get("progress") and RecordingProgress.from_dict(raw["progress"])
            if error is not None:
                return IdentificationStatus(error=from_code(error["code"], error["message"], param=error["param"]))
        except (NotFound, ValueError, KeyError, TypeError):
            return None
        if self._clock.now() - heartbeat > LEASE:
            lost = EngineFailed("the server that was identifying the set has ended; send the request again")
            return IdentificationStatus(error=lost)
        return IdentificationStatus(error=None, progress=progress)

    def _write(
        self, neuron_set_id: str, error: AmpsweepError | None, progress: RecordingProgress | None = None
    ) -> None:
        reason = None if error is None else {"code": error.code, "message": error.message, "param": error.param}
        with self._storage.writing(_name(neuron_set_id)) as path:
            content = {
                "at": self._clock.now(),
                "error": reason,
                "progress": None if progress is None else progress.to_dict(),
            }
            path.write_text(json.dumps(content), encoding="utf-8")


def _name(neuron_set_id: str) -> str:
    return f"{neuron_set_id}.json"
