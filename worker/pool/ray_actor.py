"""The class of the Ray actors: an engine session whose process logs and traces like the server.

Each call carries the context of its caller, so that log records and spans of the actor have the same ids as those of
the server. Ray runs each call in a separate task; the context ends with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.telemetry.context import Telemetry, TelemetryContext
from ampsweep.telemetry.start_phase import StartPhase, phases_to
from ampsweep.telemetry.traces import span, stop_traces
from jobs.cell import Cell
from jobs.execution import CaptureCall, CompletionCall
from jobs.store.records import CellFile
from worker.engines import EngineSpec
from worker.pool.engine_session import LocalEngineSession, WorkerConfig
from worker.resources.machines import Placement, place_here
from worker.resources.memory import require_capacity

log = logging.getLogger(__name__)

NO_CONTEXT = TelemetryContext()


class RayEngineActor(LocalEngineSession):
    """A `LocalEngineSession` in a Ray actor, alone in its process."""

    def __init__(self, spec: EngineSpec, config: WorkerConfig, telemetry: Telemetry) -> None:
        telemetry.start(service="ampsweep-engine", instance=f"{socket.gethostname()}:{os.getpid()}")
        super().__init__(spec, config)
        self._phase: StartPhase = "starting an engine process"

    async def phase(self) -> StartPhase:
        """Return what `open` does."""
        return self._phase

    def _enter_phase(self, phase: StartPhase) -> None:
        self._phase = phase

    async def place(self) -> Placement:
        """Return the machine of this process, and the memory that the engine will allocate there."""
        return await asyncio.to_thread(place_here, self._spec)

    async def open(self) -> None:
        """Load the model, unless this machine can never hold it."""
        for warning in await asyncio.to_thread(require_capacity, self._spec):
            log.warning(warning, extra={"model": self._spec.model})
        with phases_to(self._enter_phase):
            await super().open()

    async def run_cell(self, cell: Cell, epoch: int, context: TelemetryContext = NO_CONTEXT) -> CellFile:
        """Compute and publish a cell."""
        context.attach()
        log.debug("the cell is started", extra={"model": cell.model})
        with span("engine.cell", {"cell.id": cell.id}, parent=context.trace):
            file = await super().run_cell(cell, epoch)
            log.info("the cell is published", extra={"model": cell.model, "samples": file.rows})
            return file

    async def stream(self, call: CompletionCall, context: TelemetryContext = NO_CONTEXT) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        context.attach()
        with span("engine.completion", {"model": call.model}, parent=context.trace, current=False):
            async with aclosing(super().stream(call)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def capture(self, call: CaptureCall, context: TelemetryContext = NO_CONTEXT) -> bytes:
        """Return the activations of texts in the form that the call asks for."""
        context.attach()
        with span("engine.capture", {"model": call.model, "texts": len(call.texts)}, parent=context.trace):
            return await super().capture(call)

    async def find_neurons(self, ref: NeuronsRef, context: TelemetryContext = NO_CONTEXT) -> None:
        """Identify a neuron set and publish it, unless it exists already."""
        context.attach()
        with span("engine.neurons", {"neurons.id": ref.id}, parent=context.trace):
            await super().find_neurons(ref)

    async def close(self) -> None:
        """Free the engine and export the remaining spans."""
        await super().close()
        stop_traces()
