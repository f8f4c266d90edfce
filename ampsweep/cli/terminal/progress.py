"""Progress display: a bar on a terminal, plain lines elsewhere. Both show the rate and the time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from ampsweep.cli.terminal.output import echo
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.telemetry.library_output import own_stream
from ampsweep.telemetry.start_phase import phases_to

T = TypeVar("T")

REFRESH_SECONDS = 0.5
"""Interval in seconds at which the progress of a recording is looked at."""
PLAIN_STEPS = 10
"""Number of lines printed without a terminal for the work of a stage, from start to end."""
PLAIN_SECONDS = 30.0
"""Seconds after which a line is printed without a terminal at the latest, if anything has changed."""
RATE_SECONDS = 300.0
"""Period over which the rate is measured: longer than one step of any work, so that it does not jump."""


class ProgressDisplay:
    """Shows how far work is on standard error while its block runs: a label, a stage, `done` of `total` units.

    The phases of an engine that is started in the block are stages too.

    Args:
        label: What is worked on.
        unit: What is counted.
        clock: Returns the time in seconds.
    """

    def __init__(self, label: str, unit: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._label = label
        self._unit = unit
        self._stage = ""
        self._clock = clock
        self._last_step = -1
        self._printed_at = clock()
        self._printed = ""
        self._counts: deque[tuple[float, int]] = deque()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=Console(file=own_stream(err=True)),
            disable=not own_stream(err=True).isatty(),
            get_time=clock,
        )
        self._task = self._bar.add_task(label, total=None, text="")
        self._phases = phases_to(self.stage)

    def __enter__(self) -> Self:
        self._bar.start()
        self._phases.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phases.__exit__(None, None, None)
        self._bar.stop()

    def stage(self, name: str, unit: str = "") -> None:
        """Begin another stage of the work, whose rate is measured anew. Does nothing in that stage."""
        if name == self._stage:
            return
        self._stage, self._unit, self._last_step = name, unit, -1
        self._counts.clear()
        self._bar.reset(self._task, total=None, description=f"{self._label}: {name}", text="")
        if self._bar.disable and not unit:  # otherwise its first count is printed
            self._print(f"{self._label}: {name}")

    def show(self, done: int, total: int | None, note: str = "") -> None:
        """Update the display; `note` is a short text about the state. A rate is shown from the third call on."""
        self.show_rate(done, total, self._rate(done), note)

    def show_rate(self, done: int, total: int | None, rate: float | None, note: str) -> None:
        """Update the display with a rate in units per second that was measured elsewhere."""
        self._bar.update(self._task, completed=done, total=total)
        counted = f"{done:,}/{'?' if total is None else f'{total:,}'} {self._unit}".rstrip()
        parts = [counted, *_pace(done, total, rate), note]
        text = ", ".join(part for part in parts if part)
        self._bar.update(self._task, text=text)
        if self._bar.disable:
            self._show_line(done, total, text)

    def _rate(self, done: int) -> float | None:
        """Return the units per second since the first count of the stage, which many finished at once do not raise."""
        counts, now = self._counts, self._clock()
        if not counts or done > counts[-1][1]:
            counts.append((now, done))
        while len(counts) > 3 and counts[1][0] < now - RATE_SECONDS:
            counts.popleft()
        since, before = counts[0]
        return (done - before) / (now - since) if len(counts) > 2 and now > since else None

    def _show_line(self, done: int, total: int | None, text: str) -> None:
        step = done * PLAIN_STEPS // total if total else done // 1000
        line = f"{self._label}: {self._stage + ': ' if self._stage else ''}{text}"
        is_due = self._clock() - self._printed_at >= PLAIN_SECONDS
        if step != self._last_step or (is_due and line != self._printed):
            self._last_step = step
            self._print(line)

    def _print(self, line: str) -> None:
        self._printed, self._printed_at = line, self._clock()
        echo(line, err=True)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show on a terminal that something is waited for during the block, or the phase of an engine's start."""
    stream = own_stream(err=True)
    if not stream.isatty():
        yield
        return
    from rich.console import Console

    with Console(file=stream).status(text) as status, phases_to(status.update):
        yield


def show_recording(display: ProgressDisplay, progress: RecordingProgress) -> None:
    """Show how far the recording of a corpus is, as the stage `finding neurons`."""
    display.stage("finding neurons", "tokens")
    language = "" if progress.language is None else f"{progress.language}, "
    note = f"{language}{progress.languages_done} of {progress.languages} languages done"
    display.show_rate(progress.tokens, progress.total_tokens, progress.tokens_per_second, note)


async def follow_recording(
    identification: Coroutine[object, object, T], progress: Callable[[], RecordingProgress], display: ProgressDisplay
) -> T:
    """Await an identification, and show how far its recording is."""
    import asyncio

    task = asyncio.create_task(identification)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=REFRESH_SECONDS)
            recording = progress()
            if recording.language is not None:
                show_recording(display, recording)
            if not task.done() and recording.languages_done == recording.languages:
                display.stage("selecting neurons")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _pace(done: int, total: int | None, rate: float | None) -> list[str]:
    """Return the rate and the time left, as far as they are known."""
    if not rate:
        return []
    pace = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
    return [pace] if total is None or done >= total else [pace, f"{duration((total - done) / rate)} left"]
