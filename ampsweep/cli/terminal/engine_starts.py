"""Shows what the engines of a server do while they start, and when they are restarted later.

The first starts are a line on a terminal, and plain lines elsewhere. Restarts are plain lines.
"""

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

    Within the block, which is for the first starts, the phases of all engines that are starting stand in one line on a
    terminal, which is renewed. After the block, an engine that fails is named too.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._clock = clock
        self._printed: dict[str, tuple[str, float]] = {}  # the last state of an engine that was shown, and when
        self._were_ready: set[str] = set()
        self._is_first = True
        stream = own_stream(err=True)
        self._line = Console(file=stream).status("the engines are starting") if stream.isatty() else None

    def __enter__(self) -> Self:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()
            self._line = None
        self._is_first = False

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
                self._were_ready.add(name)
                self._print(name, "ready", f"{name}: ready after {engine['start_seconds']:.0f} s")
            elif engine["state"] == "failed":
                self._show_failed(name, engine)
            elif engine["phase"] is not None:
                starting.append(
                    f"{name}: {start_text(engine['phase'], engine['start_seconds'])}{self._cause(name, engine)}"
                )
                if self._line is None:
                    self._print(name, engine["phase"], starting[-1], again=True)
        if self._line is not None:
            self._line.update(escape("; ".join(starting)))

    def _cause(self, name: str, engine: Mapping[str, Any]) -> str:
        """Return why an engine starts again; nothing for its first start."""
        if not engine["error"]:
            return ""
        return f" ({'restarted after' if name in self._were_ready else 'the last start failed'}: {engine['error']})"

    def _show_failed(self, name: str, engine: Mapping[str, Any]) -> None:
        """Print that an engine is not started any more; at the first start, the caller says so for the model."""
        if self._is_first:
            self._printed[name] = "failed", self._clock()
        else:
            remedy = f"`ampsweep engines retry {engine['model']}` starts it again"
            self._print(name, "failed", f"{name}: failed: {engine['error']}; {remedy}")

    def _print(self, name: str, state: str, text: str, *, again: bool = False) -> None:
        """Print a state of an engine when it is new and, with `again`, whenever it has lasted long enough."""
        now = self._clock()
        before, printed_at = self._printed.get(name, ("", now))
        if state != before or (again and now - printed_at >= PLAIN_SECONDS):
            self._printed[name] = state, now
            echo(text, err=True)
