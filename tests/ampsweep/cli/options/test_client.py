"""A sweep that is followed on a server: its stages, from its events, of which only the last is seen at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from ampsweep.cli.options import client as client_module
from ampsweep.cli.options.client import client_of, follow, line
from ampsweep.client.clients import Client
from ampsweep.client.models import Event, RequestCounts, Sweep, SweepStage
from ampsweep.domain.neurons.recording_progress import RecordingProgress

RECORDING = RecordingProgress(
    language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
)


def counts(completed: int, failed: int = 0) -> dict[str, Any]:
    return {"request_counts": {"total": 4, "completed": completed, "failed": failed, "reused": 0}}


def sweep(status: str, completed: int, failed: int = 0) -> Sweep:
    numbers = RequestCounts(total=4, completed=completed, failed=failed)
    return Sweep(id="sweep_1", name="study", status=status, request_counts=numbers, created_at=0)


class StubClient:
    """A server whose sweep has these events, and these stages when it is asked for before."""

    def __init__(self, events: list[tuple[str, str, dict[str, Any]]], stages: Sequence[SweepStage | None]) -> None:
        self._events = events
        self._before = [sweep("in_progress", 0).model_copy(update={"stage": stage}) for stage in stages]

    def events(self, sweep_id: str) -> Iterator[Event]:
        for number, (kind, status, data) in enumerate(self._events, 1):
            yield Event(id=number, type=kind, data={"status": status, **data})

    def sweep(self, sweep_id: str) -> Sweep:
        return self._before.pop(0) if self._before else sweep("completed", 3, 1)


def followed(events: list[tuple[str, str, dict[str, Any]]], *stages: SweepStage | None) -> Sweep:
    return follow(cast("Client", StubClient(events, stages or [None])), sweep("in_progress", 0))


def test_the_stages_of_a_sweep_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(client_module, "SHOWN_SECONDS", 0.0)
    last = followed(
        [
            ("cell.finding_neurons", "in_progress", {**RECORDING.to_dict(), **counts(0)}),
            ("cell.completed", "in_progress", counts(2)),
            ("sweep.paused", "paused", counts(3)),
            ("sweep.finalizing", "finalizing", counts(3, 1)),
        ]
    )
    assert last.status == "completed"
    shown = [re.sub(r" [\d,.]+/(s|min), [\d:]+ left,?", "", line) for line in capsys.readouterr().err.splitlines()]
    assert shown == [
        "study: finding neurons: 300/400 tokens, fr, 1 of 2 languages done",
        "study: sweeping: 2/4 cells",
        "study: sweeping: 3/4 cells, paused",
        "study: writing the results: 4/4 cells, 1 failed",
    ]


def test_past_events_are_not_shown_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    followed([("cell.completed", "in_progress", counts(number)) for number in (1, 2, 3)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "study: writing the results: 4/4 cells, 1 failed, completed"


def test_a_sweep_that_waits_for_an_engine_and_for_neurons_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client_module, "ENGINE_SECONDS", 0.0)
    waiting = [
        SweepStage(name="waiting_for_engine", text="", phase=phase, start_seconds=9.0)
        for phase in ("loading the model", "loading the model", "testing steering")
    ]
    finding = SweepStage(name="finding_neurons", text="", progress=dict(RECORDING.to_dict()))
    followed([], *waiting, finding)
    assert capsys.readouterr().err.splitlines() == [
        "study: waiting for an engine (loading the model)",
        "study: waiting for an engine (testing steering)",
        "study: finding neurons: 300/400 tokens, 50/s, 0:02 left, fr, 1 of 2 languages done",
        "study: writing the results: 4/4 cells, 1 failed, completed",
    ]


def test_the_line_of_a_sweep_has_its_stage() -> None:
    stage = SweepStage(name="waiting_for_engine", text="waiting for an engine: tiny is starting")
    waiting = sweep("in_progress", 0).model_copy(update={"stage": stage})
    assert line(waiting).endswith("0/4 cells  study  waiting for an engine: tiny is starting")


def test_a_patient_client_waits_for_a_response_and_not_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr("ampsweep.client.clients.Client", lambda _url, **options: opened.append(options))
    client_of("http://127.0.0.1:1")
    client_of("http://127.0.0.1:1", patient=True)
    assert "timeout" not in opened[0]
    assert (opened[1]["timeout"].read, opened[1]["timeout"].connect) == (None, 60.0)
