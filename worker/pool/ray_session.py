"""An engine session in a Ray actor: forwards the calls to another process and detects its death.

Errors of `ampsweep.errors` are raised unchanged. A thread that cannot be started is Unavailable. The death of the
process, and any other error in it, is raised as EngineFailed.
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

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import PromptTokens
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.out_of_threads import is_out_of_threads, thread_failure
from ampsweep.telemetry.context import TelemetryContext
from ampsweep.telemetry.start_phase import report_phase
from jobs.cell import Cell
from jobs.execution import CaptureCall, CompletionCall, TokenizeCall
from jobs.store.records import CellFile
from worker.resources.machines import Machines

T = TypeVar("T")

PHASE_SECONDS = 1.0
"""Interval in seconds at which an engine that is starting is asked what it does."""

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "It was probably killed because memory ran out: choose --dtype bfloat16, offer fewer models or engines, or give "
    "the machine more memory."
)
_OUT_OF_MEMORY = re.compile(r"SIGKILL|OOM|running low on memory|out of memory", re.IGNORECASE)
_POSSIBLE_CAUSES = re.compile(r" (?:Some common causes include|There are some potential root causes).*")
_SHADOWED = re.compile(r"setup hook method, ampsweep\..*\bampsweep\.errors\.\w+: (.+?)(?: The actor never ran.*)?$")
"""The message of `require_own_packages` in Ray's account of a process that could not be set up."""

CLOSE_SECONDS = 10.0
"""How long an engine may take to free its resources before its process is killed."""


class RayEngineSession:
    """A session that calls an actor of the class `RayEngineActor`.

    Args:
        actor: The actor's handle.
        machines: The placements of all engines of the pool.
    """

    def __init__(self, actor: Any, machines: Machines) -> None:
        self._actor = actor
        self._machines = machines

    async def open(self) -> None:
        """Load the model in the actor's process, unless its machine cannot hold it beside the pool's other engines."""
        reporting = asyncio.create_task(self._report_phases())
        try:
            self._machines.reserve(self, await _result(self._actor.place.remote()))
            await _result(self._actor.open.remote())
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _report_phases(self) -> None:
        """Report what the actor's start does, until it does not answer any more."""
        while True:
            report_phase(await self._actor.phase.remote())
            await asyncio.sleep(PHASE_SECONDS)

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell."""
        return await _result(self._actor.run_cell.remote(cell, epoch, TelemetryContext.now()))

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how many samples of each running cell are done."""
        return await _result(self._actor.progress.remote())

    async def recordings(self) -> Mapping[str, RecordingProgress]:
        """Return how far the neuron sets are that are being identified."""
        return await _result(self._actor.recordings.remote())

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's statistics."""
        return await _result(self._actor.stats.remote())

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        chunks = self._actor.stream.options(num_returns="streaming").remote(call, TelemetryContext.now())
        try:
            async for chunk in chunks:
                yield await chunk
        except RayError as error:
            raise _as_ampsweep_error(error) from error
        finally:
            ray.cancel(chunks)

    async def capture(self, call: CaptureCall) -> bytes:
        """Return the activations of texts in the form that the call asks for."""
        return await _result(self._actor.capture.remote(call, TelemetryContext.now()))

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, and their text."""
        return await _result(self._actor.tokenize.remote(call))

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it exists already."""
        await _result(self._actor.find_neurons.remote(ref, TelemetryContext.now()))

    async def check(self) -> None:
        """Generate one token."""
        await _result(self._actor.check.remote())

    async def ended(self) -> str:
        """Wait until the actor's session is closed or its process has died; return the reason."""
        try:
            return str(await self._actor.ended.remote())
        except (RayActorError, OutOfMemoryError) as error:
            return _reason(error)

    async def close(self) -> None:
        """Let the engine free its resources, then end its process."""
        self._machines.release(self)
        with suppress(RayError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._actor.close.remote()
        ray.kill(self._actor)


async def _result(ref: Awaitable[T]) -> T:
    """Await a remote call; if the awaiting task is cancelled, cancel the call."""
    try:
        return await ref
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise
    except RayError as error:
        raise _as_ampsweep_error(error) from error


def _as_ampsweep_error(error: RayError) -> AmpsweepError:
    if isinstance(error, RayTaskError) and isinstance(error.cause, AmpsweepError):
        return error.cause
    if isinstance(error, RayTaskError) and is_out_of_threads(error.cause):
        return Unavailable(thread_failure(error.cause, "in the engine's process"))
    if isinstance(error, RayTaskError):
        log.error(
            "unhandled exception in an engine's process: %s\n%s", type(error.cause).__name__, _locations(str(error))
        )
        return EngineFailed(
            f"unhandled {type(error.cause).__name__} in the engine's process; see the server's log for the location"
        )
    if isinstance(error, RayActorError | OutOfMemoryError):
        return EngineFailed(f"the engine's process died: {_reason(error)}")
    return EngineFailed(f"the engine's process cannot be reached: {_reason(error)}")


def _locations(traceback: str) -> str:
    """Return the locations in a formatted traceback. The messages are left out, because they may contain a prompt."""
    return "\n".join(re.findall(r"^  File \"[^\"\n]+\", line \d+, in \S+$", traceback, re.MULTILINE))


def _reason(error: RayError) -> str:
    """Return Ray's reason for a death, without ids and without its list of possible causes but the likeliest one."""
    text = " ".join(str(error).split())
    if shadowed := _SHADOWED.search(text):
        return shadowed[1]
    text = re.sub(r"\b(?:class_name|actor_id|namespace): \S+ ", "", text)
    text, guesses = _POSSIBLE_CAUSES.subn("", text)
    may_be_killed = guesses or isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY.search(text)
    return f"{text[:500]} {OUT_OF_MEMORY}" if may_be_killed else text[:500]
