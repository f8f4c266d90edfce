"""Runs the asynchronous body of a command so that Ctrl-C and SIGTERM end it in an orderly way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import typer

from ampsweep.cli.terminal.output import echo
from ampsweep.telemetry.library_output import own_stream

T = TypeVar("T")
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
STOPPING = "stopping; a second Ctrl-C stops at once and saves nothing"


def run_to_end(body: Coroutine[object, object, T]) -> T:
    """Run `body` and return its result. Ctrl-C and SIGTERM cancel it; its `finally` blocks run before the exit.

    Ctrl-C is acknowledged at once, because an engine may need seconds to stop. A second one ends the process.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        typer.Exit: SIGTERM arrived.
    """
    stop = _Stop()
    with stop.on_signals():
        try:
            return asyncio.run(stop.watch(body))
        except asyncio.CancelledError:
            if stop.received == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise typer.Exit(TERMINATED) from None


def acknowledge_interrupt(text: str = STOPPING) -> None:
    """Print that the command is stopping, from a signal handler: a stream that is being written must not be used."""
    stream = own_stream(err=True)
    try:
        lead = "\n" if stream.isatty() else ""  # after the line of a progress bar
        os.write(stream.fileno(), f"{lead}{text}\n".encode())
    except (OSError, ValueError):
        echo(text, err=True)


class _Stop:
    """Cancels the task of a command when a signal arrives."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def watch(self, body: Coroutine[object, object, T]) -> T:
        """Await `body` as the task to cancel."""
        task = asyncio.ensure_future(body)
        self._loop, self._task = asyncio.get_running_loop(), task
        if self.received is not None:
            task.cancel()
        return await task

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM within the block, also while the event loop is busy.

        A signal that the parent process has told this one to ignore stays ignored.
        """
        heeded = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        before, self.received = self.received, number  # at once: the next signal may interrupt this handler
        if number == signal.SIGINT:
            if before is not None:
                os._exit(INTERRUPTED)
            acknowledge_interrupt()
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
