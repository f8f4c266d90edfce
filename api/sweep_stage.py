"""The stage of a sweep in progress before its cells are computed: waiting for an engine, or finding neurons."""

from __future__ import annotations

from typing import Any

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.telemetry.start_phase import start_text
from api.services import Services
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState


async def sweep_stage(services: Services, record: SweepRecord) -> dict[str, Any] | None:
    """Return the stage of a sweep as far as this server knows it; None while cells are computed, and after that."""
    if record.state is not SweepState.IN_PROGRESS:
        return None
    model = str(record.spec["model"])
    engines = [engine for engine in services.engine_monitor.engines() if engine["model"] == model]
    starting = [engine for engine in engines if engine["state"] == "starting"]
    if starting and all(engine["state"] != "ready" for engine in engines):
        furthest = max(starting, key=lambda engine: engine["start_seconds"] or 0.0)
        phase, seconds = furthest["phase"], furthest["start_seconds"]
        detail = "" if phase is None else f" ({start_text(phase, seconds)})"
        text = f"waiting for an engine: {model} is starting{detail}"
        return {"name": "waiting_for_engine", "text": text, "phase": phase, "start_seconds": seconds, "progress": None}
    if (recording := await services.recording_of(record.id)) is not None:
        return _finding(recording)
    return None


def _finding(recording: RecordingProgress) -> dict[str, Any]:
    text, progress = recording.text(), recording.to_dict()
    return {"name": "finding_neurons", "text": text, "phase": None, "start_seconds": None, "progress": progress}
