"""The files of scores of evaluations.

    sweeps/<sweep id>/evaluations/<evaluation id>.<epoch>.parquet

The name has the epoch of the lease under which the file was written, so a late writer overwrites no other file; a file
counts once the store knows that the evaluation is completed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.evaluation.records import EvaluationLease, EvaluationRecord
from jobs.storage.protocol import Storage, StoredFile

_NAME = re.compile(r"sweeps/([^/]+)/evaluations/([^/.]+)(?:\.(\d+))?\.[a-z]+")


@dataclass(frozen=True, kw_only=True)
class ScoreFileName:
    """Name of a file of scores in the storage, taken apart; `epoch` is None if it has none."""

    name: str
    sweep_id: str
    evaluation_id: str
    epoch: int | None


class ScoreFiles:
    """The files of scores in one storage. Methods raise OSError or Unavailable if it cannot be used."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def publish(self, lease: EvaluationLease, scores: bytes) -> None:
        """Publish the scores of a leased evaluation under the epoch of the lease."""
        with self._storage.writing(_name(lease.evaluation)) as path:
            path.write_bytes(scores)

    def of(self, evaluation: EvaluationRecord) -> StoredFile:
        """Return the file of a completed evaluation."""
        return StoredFile(storage=self._storage, name=_name(evaluation))

    def names(self) -> list[ScoreFileName]:
        """Return the names of all files."""
        return [
            ScoreFileName(
                name=name, sweep_id=match[1], evaluation_id=match[2], epoch=None if match[3] is None else int(match[3])
            )
            for name in self._storage.names("sweeps")
            if (match := _NAME.fullmatch(name))
        ]

    def delete(self, files: Iterable[ScoreFileName]) -> None:
        """Delete those files that exist."""
        self._storage.delete(*(file.name for file in files))


def _name(evaluation: EvaluationRecord) -> str:
    return f"sweeps/{evaluation.sweep_id}/evaluations/{evaluation.id}.{evaluation.epoch}.parquet"
