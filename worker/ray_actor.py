"""The body of a Ray actor: a host whose process logs, and makes spans, as the server's does.

A call brings its context along: what the process logs while it is served has the ids that the server's log has. Ray
runs each call in a task of its own, so what is bound there ends with it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.telemetry.context import Telemetry, TelemetryContext
from ampsweep.telemetry.traces import span, stop_traces
from jobs.cell import Cell
from jobs.execution import CompletionCall
from jobs.store.records import CellFile
from worker.engine_session import LocalEngineSession, WorkerConfig
from worker.engines import EngineSpec

log = logging.getLogger(__name__)

NOTHING = TelemetryContext()


class RayEngineActor(LocalEngineSession):
    """A `LocalEngineSession` in a Ray actor, alone in its process."""

    def __init__(self, spec: EngineSpec, config: WorkerConfig, telemetry: Telemetry) -> None:
        telemetry.start(service="ampsweep-engine", instance=f"{socket.gethostname()}:{os.getpid()}")
        super().__init__(spec, config)

    async def run_cell(self, cell: Cell, epoch: int, carried: TelemetryContext = NOTHING) -> CellFile:
        """Compute and publish a cell."""
        carried.attach()
        log.debug("the cell is begun", extra={"model": cell.model})
        with span("engine.cell", {"cell.id": cell.id}, parent=carried.trace):
            file = await super().run_cell(cell, epoch)
            log.info("the cell is published", extra={"model": cell.model, "samples": file.rows})
            return file

    async def stream(self, call: CompletionCall, carried: TelemetryContext = NOTHING) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        carried.attach()
        with span("engine.completion", {"model": call.model}, parent=carried.trace, current=False):
            async with aclosing(super().stream(call)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def find_neurons(self, ref: NeuronsRef, carried: TelemetryContext = NOTHING) -> None:
        """Identify a neuron set and publish it, unless it is there."""
        carried.attach()
        with span("engine.neurons", {"neurons.id": ref.id}, parent=carried.trace):
            await super().find_neurons(ref)

    async def close(self) -> None:
        """Free the engine, and send the spans that are left."""
        await super().close()
        stop_traces()
