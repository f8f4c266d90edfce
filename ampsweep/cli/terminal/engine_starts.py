"""Shows what the engines of a server do while they start: a line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from rich.markup import escape

from ampsweep.cli.terminal.output import echo
from ampsweep.telemetry.library_output import own_stream
from ampsweep.telemetry.start_phase import start_text

REFRESH_SECONDS = 0.5
"""Interval in seconds at which the engines are looked at."""
PLAIN_SECONDS = 30.0
"""Seconds after which a phase that goes on is printed again without a terminal."""


class EngineStarts:
    """Prints to standard error when an engine enters a phase of its start, and when it is ready.

    On a terminal, the phases of all engines that are starting stand in one line, which is renewed.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._clock = clock
        self._printed: dict[str, tuple[str, float]] = {}  # what was printed last about an engine, and when
        stream = own_stream(err=True)
        self._line = Console(file=stream).status("the engines are starting") if stream.isatty() else None

    def __enter__(self) -> Self:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()

    async def follow(self, engines: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Show the states of the engines until the task is cancelled."""
        while True:
            self.show(engines())
            await asyncio.sleep(REFRESH_SECONDS)

    def show(self, engines: Sequence[Mapping[str, Any]]) -> None:
        """Show the states of the engines, as `EngineMonitor.engines` returns them."""
        counts = Counter(engine["model"] for engine in engines)
        starting = []
        for engine in engines:
            name = engine["model"] if counts[engine["model"]] == 1 else f"{engine['model']}:{engine['index']}"
            if engine["state"] == "ready":
                self._print(name, "ready", f"{name}: ready after {engine['start_seconds']:.0f} s")
            elif engine["state"] == "starting" and engine["phase"] is not None:
                error = f" (the last start failed: {engine['error']})" if engine["error"] else ""
                starting.append(f"{name}: {start_text(engine['phase'], engine['start_seconds'])}{error}")
                if self._line is None:
                    self._print(name, engine["phase"], starting[-1], again=True)
        if self._line is not None:
            self._line.update(escape("; ".join(starting)))

    def _print(self, name: str, state: str, text: str, *, again: bool = False) -> None:
        """Print a state of an engine when it is new and, with `again`, whenever it has lasted long enough."""
        now = self._clock()
        before, printed_at = self._printed.get(name, ("", now))
        if state != before or (again and now - printed_at >= PLAIN_SECONDS):
            self._printed[name] = state, now
            echo(text, err=True)
