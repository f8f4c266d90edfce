"""What was recorded of sentences that are taken alone."""

from __future__ import annotations

from engine.vllm.worker.outputs.recorded_part import RecordedPart
from engine.vllm.worker.outputs.recording import Recording


def taken_parts(recording: Recording, keys: str) -> list[RecordedPart]:
    """Take sentences without a group, whose names are single letters, and return their parts in order."""
    parts = [part for part in recording.take([*keys]) if part is not None]
    assert [part.keys for part in parts] == [(key,) for key in keys]
    return parts
