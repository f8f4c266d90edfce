"""A host whose engine lives in a Ray actor: the same calls, carried to another process, and its death noticed.

Errors come back as what they were: those of the one tree as themselves, the death of the process as EngineFailed.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.errors import AmpsweepError, EngineFailed
from ampsweep.telemetry.context import TelemetryContext
from jobs.cell import Cell
from jobs.execution import CompletionCall
from jobs.store.records import CellFile

T = TypeVar("T")

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "It was probably killed because memory ran out: choose --dtype bfloat16, offer fewer models or engines, or give "
    "the machine more memory."
)
_OUT_OF_MEMORY = re.compile(r"SIGKILL|OOM|running low on memory|out of memory", re.IGNORECASE)
_GUESSES = re.compile(r" (?:Some common causes include|There are some potential root causes).*")
_SHADOWED = re.compile(r"setup hook method, ampsweep\..*\bampsweep\.errors\.\w+: (.+?)(?: The actor never ran.*)?$")
"""The message of `require_own_packages` in Ray's account of a process that could not be set up."""

CLOSE_SECONDS = 10.0
"""How long an engine may take to free what it holds before its process is killed."""


class RayEngineSession:
    """A host behind the handle of an actor whose class is `RayEngineActor`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def open(self) -> None:
        """Load the model in the actor's process."""
        await _answered(self._actor.open.remote())

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell."""
        return await _answered(self._actor.run_cell.remote(cell, epoch, TelemetryContext.now()))

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how far the cells are."""
        return await _answered(self._actor.progress.remote())

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's numbers."""
        return await _answered(self._actor.stats.remote())

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        chunks = self._actor.stream.options(num_returns="streaming").remote(call, TelemetryContext.now())
        try:
            async for chunk in chunks:
                yield await chunk
        except RayError as error:
            raise _ours(error) from error
        finally:
            ray.cancel(chunks)

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it is there."""
        await _answered(self._actor.find_neurons.remote(ref, TelemetryContext.now()))

    async def check(self) -> None:
        """Ask the engine for one token."""
        await _answered(self._actor.check.remote())

    async def ended(self) -> str:
        """Wait until the actor's host is closed or its process has died."""
        try:
            return str(await self._actor.ended.remote())
        except (RayActorError, OutOfMemoryError) as error:
            return _reason(error)

    async def close(self) -> None:
        """Let the engine free what it holds, then end its process."""
        with suppress(RayError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._actor.close.remote()
        ray.kill(self._actor)


async def _answered(ref: Awaitable[T]) -> T:
    """Await a remote call; where the awaiting task is cancelled, so is the call."""
    try:
        return await ref
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise
    except RayError as error:
        raise _ours(error) from error


def _ours(error: RayError) -> AmpsweepError:
    if isinstance(error, RayTaskError) and isinstance(error.cause, AmpsweepError):
        return error.cause
    if isinstance(error, RayTaskError):
        log.error("unhandled exception in an engine's process: %s\n%s", type(error.cause).__name__, _places(str(error)))
        return EngineFailed(f"the engine's process failed: {type(error.cause).__name__}; the server's log says where")
    if isinstance(error, RayActorError | OutOfMemoryError):
        return EngineFailed(f"the engine's process died: {_reason(error)}")
    return EngineFailed(f"the engine's process cannot be reached: {_reason(error)}")


def _places(traceback: str) -> str:
    """Return the places of a traceback in text, without messages, which may repeat a prompt."""
    return "\n".join(re.findall(r"^  File \"[^\"\n]+\", line \d+, in \S+$", traceback, re.MULTILINE))


def _reason(error: RayError) -> str:
    """Return Ray's own account of a death without its ids; of the causes that it guesses at, the likeliest."""
    text = " ".join(str(error).split())
    if shadowed := _SHADOWED.search(text):
        return shadowed[1]
    text = re.sub(r"\b(?:class_name|actor_id|namespace): \S+ ", "", text)
    text, guesses = _GUESSES.subn("", text)
    killed = guesses or isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY.search(text)
    return f"{text[:500]} {OUT_OF_MEMORY}" if killed else text[:500]
