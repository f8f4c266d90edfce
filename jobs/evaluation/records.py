"""The evaluations of the sweeps on one storage: their status, which all servers share, and their files.

    sweeps/<sweep id>/evaluations/<evaluation id>.json       the record
    sweeps/<sweep id>/evaluations/<evaluation id>.parquet    the scores, once it is completed

The server that runs an evaluation rewrites the record as a heartbeat. An evaluation in progress whose record is older
than `LEASE` has lost its server and counts as failed; the same request starts it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ampsweep.errors import AmpsweepError, NotFound
from jobs.clock import Clock
from jobs.storage.protocol import Storage, StoredFile

BEAT = 10.0
"""Seconds between two heartbeats of an evaluation."""
LEASE = 60.0
"""Seconds without a heartbeat after which an evaluation has failed; clocks of servers must differ by less."""
LOST = "the server that ran the evaluation has ended; send the request again"


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """State of an evaluation. Times are in seconds since 1970.

    Attributes:
        request: The JSON form of the request.
        status: `in_progress`, `completed` or `failed`.
        groups: The values of each group, once it is completed.
        left_out: Rows that lack a value that is needed.
        error: Why it failed.
        beat_at: When its server last gave a sign of life.
    """

    id: str
    sweep_id: str
    request: Mapping[str, Any]
    created_at: float
    beat_at: float
    status: str = "in_progress"
    ended_at: float | None = None
    groups: Sequence[Mapping[str, Any]] | None = None
    left_out: int | None = None
    error: str | None = None


class EvaluationRecords:
    """The records in one storage. Methods block, and raise OSError or Unavailable if the storage cannot be used."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def start(self, evaluation_id: str, sweep_id: str, request: Mapping[str, Any]) -> EvaluationRecord:
        """Record that an evaluation is in progress."""
        now = self._clock.now()
        return self._write(
            EvaluationRecord(id=evaluation_id, sweep_id=sweep_id, request=request, created_at=now, beat_at=now)
        )

    def beat(self, record: EvaluationRecord) -> None:
        """Record that an evaluation is still in progress."""
        self._write(replace(record, beat_at=self._clock.now()))

    def complete(
        self, record: EvaluationRecord, scores: bytes, groups: Sequence[Mapping[str, Any]], *, left_out: int
    ) -> None:
        """Publish the scores of an evaluation, and then record its end."""
        with self._storage.writing(_name(record.sweep_id, record.id, "parquet")) as path:
            path.write_bytes(scores)
        self._end(replace(record, status="completed", groups=groups, left_out=left_out))

    def fail(self, record: EvaluationRecord, error: AmpsweepError) -> None:
        """Record why an evaluation failed."""
        self._end(replace(record, status="failed", error=error.message))

    def get(self, sweep_id: str, evaluation_id: str) -> EvaluationRecord:
        """Return an evaluation; raise NotFound if the sweep has none of this id."""
        missing = NotFound(f"sweep {sweep_id} has no evaluation {evaluation_id}")
        try:
            record = EvaluationRecord(**json.loads(self._storage.read(_name(sweep_id, evaluation_id, "json"))))
        except (NotFound, ValueError, TypeError):
            raise missing from None
        if record.status == "in_progress" and self._clock.now() - record.beat_at > LEASE:
            return replace(record, status="failed", error=LOST, ended_at=record.beat_at)
        return record

    def of_sweep(self, sweep_id: str) -> list[EvaluationRecord]:
        """Return the evaluations of a sweep, oldest first."""
        names = self._storage.names(f"sweeps/{sweep_id}/evaluations")
        records = [self.get(sweep_id, Path(name).stem) for name in names if name.endswith(".json")]
        return sorted(records, key=lambda record: (record.created_at, record.id))

    def scores_file(self, record: EvaluationRecord) -> StoredFile:
        """Return the file with the scores of a completed evaluation."""
        return StoredFile(storage=self._storage, name=_name(record.sweep_id, record.id, "parquet"))

    def _end(self, record: EvaluationRecord) -> None:
        now = self._clock.now()
        self._write(replace(record, ended_at=now, beat_at=now))

    def _write(self, record: EvaluationRecord) -> EvaluationRecord:
        with self._storage.writing(_name(record.sweep_id, record.id, "json")) as path:
            path.write_text(json.dumps(asdict(record), ensure_ascii=False), encoding="utf-8")
        return record


def _name(sweep_id: str, evaluation_id: str, ending: str) -> str:
    return f"sweeps/{sweep_id}/evaluations/{evaluation_id}.{ending}"
