"""Progress on a terminal and elsewhere: stages, counts, rate and time left."""

from __future__ import annotations

import asyncio
import io
import sys
import threading

import pytest

from ampsweep.cli.terminal import progress
from ampsweep.cli.terminal.progress import PLAIN_SECONDS, ProgressDisplay, duration, follow_recording, show_recording
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.telemetry.start_phase import report_phase, reporting_from_here

RECORDING = RecordingProgress(
    language="fr", languages=18, languages_done=3, tokens=30_000, total_tokens=90_000, tokens_per_second=1000.0
)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(captured: pytest.CaptureFixture[str]) -> list[str]:
    return captured.readouterr().err.splitlines()


def test_plain_lines_have_stage_count_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay("study", clock=clock) as display:
        display.stage("loading the model")
        display.stage("sweeping", "cells")
        for done in range(0, 101, 10):
            display.show(done, 100, "1 failed" if done else "")
            clock.time += 20
    assert lines(capsys) == [
        "study: loading the model",
        "study: sweeping: 0/100 cells",
        "study: sweeping: 10/100 cells, 1 failed",
        *(
            f"study: sweeping: {done}/100 cells, 30.0/min, {duration((100 - done) * 2)} left, 1 failed"
            for done in range(20, 100, 10)
        ),
        "study: sweeping: 100/100 cells, 30.0/min, 1 failed",
    ]


def test_the_phases_of_an_engine_that_is_started_are_stages(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        report_phase("loading the model")

    with ProgressDisplay("study", clock=Clock()) as display:
        display.stage("starting the engine")
        report_phase("importing libraries")
        thread = threading.Thread(target=reporting_from_here(load))
        thread.start()
        thread.join()
    report_phase("testing steering")
    assert lines(capsys) == [
        "study: starting the engine",
        "study: importing libraries",
        "study: loading the model",
    ]


def test_a_resumed_work_does_not_count_what_was_there_before(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay("study", "cells", clock=clock) as display:
        display.show(80, 100)
        for done in (82, 90):
            clock.time += 1
            display.show(done, 100)
    assert lines(capsys)[-1] == "study: 90/100 cells, 5.0/s, 0:02 left"


def test_units_that_end_together_count_for_the_time_since_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay("study", "cells", clock=clock) as display:
        display.show(0, 56)
        clock.time += 240
        for done in range(1, 9):
            display.show(done, 56)
            clock.time += 0.001
    assert lines(capsys)[-1] == "study: 6/56 cells, 1.5/min, 33:20 left"


def test_slow_work_prints_a_line_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay("study", "cells", clock=clock) as display:
        display.show(0, 10_000)
        display.show(1, 10_000)
        clock.time += PLAIN_SECONDS
        display.show(2, 10_000)
        display.show(3, 10_000)
        clock.time += PLAIN_SECONDS
        display.show(3, 10_000)
    shown = lines(capsys)
    assert [line.split(",")[0] for line in shown] == ["study: 0/10", "study: 2/10", "study: 3/10"]


def test_a_stage_measures_its_own_rate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay("study", clock=clock) as display:
        show_recording(display, RECORDING)
        clock.time += 60
        display.stage("sweeping", "cells")
        display.show(0, 10)
        display.stage("sweeping", "cells")
        for done in (5, 10):
            clock.time += 1
            display.show(done, 10)
    assert lines(capsys) == [
        "study: finding neurons: 30,000/90,000 tokens, 1,000/s, 1:00 left, fr, 3 of 18 languages done",
        "study: sweeping: 0/10 cells",
        "study: sweeping: 5/10 cells",
        "study: sweeping: 10/10 cells, 5.0/s",
    ]


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with ProgressDisplay("study") as display:
        display.stage("sweeping", "cells")
        display.show(3, 10, "1 failed")
    shown = terminal.getvalue()
    assert "study: sweeping" in shown
    assert "3/10 cells, 1 failed" in shown
    assert "━" in shown


def test_a_recording_is_followed_to_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.001)
    asked = asyncio.Event()

    def now() -> RecordingProgress:
        asked.set()
        return RECORDING

    async def identification() -> str:
        await asked.wait()
        return "the set"

    async def follow() -> str:
        return await follow_recording(identification(), now, ProgressDisplay("neurons"))

    assert asyncio.run(follow()) == "the set"
    assert lines(capsys)[0].startswith("neurons: finding neurons: 30,000/90,000 tokens")


def test_an_identification_ends_with_the_command_that_follows_it() -> None:
    ended = []

    async def identification() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def follow() -> None:
        task = asyncio.create_task(follow_recording(identification(), lambda: RECORDING, ProgressDisplay("neurons")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(follow())
    assert ended == [True]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3725, "1:02:05")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
