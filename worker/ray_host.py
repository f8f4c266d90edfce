"""A host whose engine lives in a Ray actor: the same calls, carried to another process, and its death noticed.

Errors come back as what they were: those of the one tree as themselves, the death of the process as EngineFailed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ampsweep.errors import AmpsweepError, EngineFailed
from jobs.cell import Cell, NeuronsRef
from jobs.ports import CompletionCall, CompletionChunk
from jobs.store.records import CellFile

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
"""How long an engine may take to free what it holds before its process is killed."""


class RayHost:
    """A host behind the handle of an actor whose class is `EngineHost`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def open(self) -> None:
        """Load the model in the actor's process."""
        await _carried(self._actor.open.remote())

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell."""
        return await _carried(self._actor.run_cell.remote(cell, epoch))

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how far the cells are."""
        return await _carried(self._actor.progress.remote())

    async def stream(self, call: CompletionCall) -> AsyncGenerator[CompletionChunk]:
        """Stream a completion."""
        chunks = self._actor.stream.options(num_returns="streaming").remote(call)
        try:
            async for chunk in chunks:
                yield await chunk
        except RayError as error:
            raise _ours(error) from error
        finally:
            ray.cancel(chunks)

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it is there."""
        await _carried(self._actor.find_neurons.remote(ref))

    async def check(self) -> None:
        """Ask the engine for one token."""
        await _carried(self._actor.check.remote())

    async def ended(self) -> str:
        """Wait until the actor's host is closed or its process has died."""
        try:
            return str(await self._actor.ended.remote())
        except RayActorError as error:
            return _first_lines(error)

    async def close(self) -> None:
        """Let the engine free what it holds, then end its process."""
        with suppress(RayError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._actor.close.remote()
        ray.kill(self._actor)


async def _carried(ref: Awaitable[T]) -> T:
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
        log.error("a defect in an engine's process: %s", error)  # with the traceback from over there
        return EngineFailed(f"the engine's process failed: {type(error.cause).__name__}: {error.cause}")
    if isinstance(error, RayActorError):
        return EngineFailed(f"the engine's process died: {_first_lines(error)}")
    return EngineFailed(f"the engine's process cannot be reached: {_first_lines(error)}")


def _first_lines(error: RayError) -> str:
    return " ".join(str(error).split())[:500]
