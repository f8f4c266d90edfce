"""What `ampsweep serve` shows while its engines start."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from ampsweep.cli.terminal.engine_starts import PLAIN_SECONDS, EngineStarts
from tests.ampsweep.cli.terminal.test_progress import Clock, Terminal, lines


def engine(model: str = "gemma", index: int = 0, **state: Any) -> dict[str, Any]:
    described = {"state": "starting", "phase": None, "start_seconds": None, "error": None}
    return {"model": model, "index": index, **described, **state}


def test_plain_lines_name_each_phase_once_and_again_after_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with EngineStarts(clock=clock) as starts:
        starts.show([engine()])
        starts.show([engine(phase="starting Ray", start_seconds=0.0)])
        for second in range(5, 70):
            clock.time = float(second)
            starts.show([engine(phase="loading the model", start_seconds=clock.time)])
        starts.show([engine(state="ready", start_seconds=71.6)])
        starts.show([engine(state="ready", start_seconds=71.6)])
    assert PLAIN_SECONDS == 30
    assert lines(capsys) == [
        "gemma: starting Ray",
        "gemma: loading the model, 5 s so far",
        "gemma: loading the model, 35 s so far",
        "gemma: loading the model, 65 s so far",
        "gemma: ready after 72 s",
    ]


def test_engines_of_one_model_have_numbers_and_a_failed_start_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    waiting: dict[str, Any] = {"phase": "waiting for the next start", "start_seconds": 2.0, "error": "the GPU is taken"}
    with EngineStarts(clock=Clock()) as starts:
        starts.show([engine(state="ready", start_seconds=3.0), engine(index=1, **waiting), engine("atlas")])
    assert lines(capsys) == [
        "gemma:0: ready after 3 s",
        "gemma:1: waiting for the next start, 2 s so far (the last start failed: the GPU is taken)",
    ]


def test_a_restart_is_shown_in_lines_with_its_cause_also_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    clock = Clock()
    with EngineStarts(clock=clock) as starts:
        starts.show([engine(phase="loading the model", start_seconds=1.0), engine("other", state="failed", error="x")])
        starts.show([engine(state="ready", start_seconds=2.0), engine("other", state="failed", error="x")])
    terminal.truncate(0)
    other = engine("other", state="failed", error="x")
    starts.show([engine(state="ready", start_seconds=2.0), other])
    starts.show([engine(error="the engine ended: killed"), other])
    starts.show([engine(phase="loading the model", start_seconds=3.0, error="the engine ended: killed"), other])
    starts.show([engine(state="ready", start_seconds=4.0), other])
    starts.show([engine(phase="loading the model", start_seconds=5.0, error="the engine ended: killed"), other])
    starts.show([engine(state="failed", error="no memory"), other])
    starts.show([engine(state="failed", error="no memory"), other])
    assert terminal.getvalue().strip("\0").splitlines() == [
        "gemma: loading the model, 3 s so far (restarted after: the engine ended: killed)",
        "gemma: ready after 4 s",
        "gemma: loading the model, 5 s so far (restarted after: the engine ended: killed)",
        "gemma: failed: no memory; `ampsweep engines retry gemma` starts it again",
    ]


def test_a_terminal_has_one_line_that_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with EngineStarts(clock=Clock()) as starts:
        for second in range(60):
            starts.show([engine(phase="loading the model", start_seconds=float(second), error="[bold] is no markup")])
        assert starts._line is not None
        assert "loading the model, 59 s so far" in str(starts._line.status)
        assert isinstance(terminal, io.StringIO)
        starts.show([engine(state="ready", start_seconds=60.0)])
    assert terminal.getvalue().count("\n") < 5
    assert "gemma: ready after 60 s" in terminal.getvalue()
