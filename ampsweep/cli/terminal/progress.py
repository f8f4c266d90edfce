"""Progress display: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PLAIN_STEPS = 10
"""Number of lines printed without a terminal, from start to end."""


class Counter:
    """Shows `done` of `total` with a label on standard error while its block runs. An unknown `total` is None."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._last = -1
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(label, total=None, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, done: int, total: int | None, note: str = "") -> None:
        """Update the display; `note` is a short text about the state."""
        self._bar.update(self._task, completed=done, total=total, note=note)
        if not self._bar.disable:
            return
        step = done * PLAIN_STEPS // total if total else done // 1000
        if step != self._last:
            self._last = step
            print(f"{self._label}: {done}/{total or '?'} {note}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201
