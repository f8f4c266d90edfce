"""Runs the asynchronous body of a command so that Ctrl-C, SIGTERM and a closed terminal end it in an orderly way."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ampsweep.cli.terminal.output import echo
from ampsweep.telemetry.library_output import discard_output_of_lost_terminal, own_stream

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
INTERRUPTED, TERMINATED, HUNG_UP = 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that stop a command: Ctrl-C, `kill` or a service manager, and the end of its terminal or connection."""
STOPPING = "stopping; a second Ctrl-C stops at once and saves nothing"


def run_to_end(body: Coroutine[object, object, T]) -> T:
    """Run `body` and return its result. A signal of `STOP_SIGNALS` cancels it, and its `finally` blocks run first.

    Ctrl-C is acknowledged at once, because an engine may need seconds to stop. A second one ends the process.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        typer.Exit: SIGTERM or SIGHUP arrived.
    """
    import asyncio

    stop = _Stop()
    with stop.on_signals():
        try:
            return asyncio.run(stop.watch(body))
        except asyncio.CancelledError:
            if stop.received == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise typer.Exit(HUNG_UP if stop.received == signal.SIGHUP else TERMINATED) from None


def handled_signals() -> tuple[signal.Signals, ...]:
    """Return `STOP_SIGNALS` without those that this process was started to ignore, as nohup starts its commands."""
    return tuple(number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN)


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
        import asyncio

        task = asyncio.ensure_future(body)
        self._loop, self._task = asyncio.get_running_loop(), task
        if self.received is not None:
            task.cancel()
        return await task

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle `handled_signals` within the block, also while the event loop is busy."""
        before = {number: signal.signal(number, self._receive) for number in handled_signals()}
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
        if number == signal.SIGHUP:
            discard_output_of_lost_terminal()
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
