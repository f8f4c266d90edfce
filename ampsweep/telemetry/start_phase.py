"""The phase that the start of an engine is in. What starts the engine reports it; whoever awaits the start receives it.

The receiver is a context variable, so that phases reach it through every call between the two. A thread or a process in
between has to pass them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

StartPhase = Literal[
    "starting Ray",
    "starting an engine process",
    "importing libraries",
    "loading the model",
    "compiling and warming up",
    "testing steering",
    "waiting for the next start",
]
"""What an engine that is starting does."""


def _ignore(_phase: StartPhase) -> None:
    """Nobody waits for the start."""


_receiver: ContextVar[Callable[[StartPhase], None]] = ContextVar("start_phase_receiver", default=_ignore)


def report_phase(phase: StartPhase) -> None:
    """Tell the receiver of this task or thread, if there is one, that a phase begins."""
    _receiver.get()(phase)


@contextmanager
def phases_to(receiver: Callable[[StartPhase], None]) -> Iterator[None]:
    """Send the phases that are reported during the block to `receiver`, which may be called in another thread."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)


def reporting_from_here(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that reports its phases, in whichever thread it is called, to the receiver of this task."""
    receiver = _receiver.get()

    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        with phases_to(receiver):
            return function(*args, **kwargs)

    return reporting


def start_text(phase: str, seconds: float | None) -> str:
    """Return the phase of a start, and for how many seconds the start has been going on, as text."""
    return phase if seconds is None or seconds < 1 else f"{phase}, {seconds:.0f} s so far"
