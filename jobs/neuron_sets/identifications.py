"""Searches for neuron sets that are under way or have failed, as every server on one storage knows them.

A search is a small file beside the sets, which its server writes anew while it lasts. A search whose file is older than
LEASE has lost its server, and counts as failed.
"""

from __future__ import annotations

import json

from ampsweep.errors import AmpsweepError, EngineFailed, NotFound, from_code
from jobs.clock import Clock
from jobs.execution import IdentificationStatus
from jobs.storage.protocol import Storage

IDENTIFYING = "identifying"
"""The folder of the notes, below that of the sets."""
BEAT = 10.0
"""Seconds between two signs of life of a search."""
LEASE = 60.0
"""Seconds without a sign of life after which a search has ended; the clocks of servers may differ by less."""


class Identifications:
    """The searches noted in one storage. Its calls may take their time."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def beat(self, neuron_set_id: str) -> None:
        """Note that a set is being searched for now."""
        self._write(neuron_set_id, None)

    def fail(self, neuron_set_id: str, error: AmpsweepError) -> None:
        """Note why a search has ended without a set."""
        self._write(neuron_set_id, error)

    def forget(self, neuron_set_id: str) -> None:
        """Remove the note of a search: its set is there."""
        self._storage.delete(_name(neuron_set_id))

    def get(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return how a search stands; None where there is none."""
        try:
            raw = json.loads(self._storage.read(_name(neuron_set_id)))
            at, error = float(raw["at"]), raw["error"]
            if error is not None:
                return IdentificationStatus(error=from_code(error["code"], error["message"], param=error["param"]))
        except (NotFound, ValueError, KeyError, TypeError):
            return None
        if self._clock.now() - at > LEASE:
            lost = EngineFailed("the server that was identifying it has ended; send the request again")
            return IdentificationStatus(error=lost)
        return IdentificationStatus(error=None)

    def _write(self, neuron_set_id: str, error: AmpsweepError | None) -> None:
        told = None if error is None else {"code": error.code, "message": error.message, "param": error.param}
        with self._storage.writing(_name(neuron_set_id)) as path:
            path.write_text(json.dumps({"at": self._clock.now(), "error": told}), encoding="utf-8")


def _name(neuron_set_id: str) -> str:
    return f"{neuron_set_id}.json"
