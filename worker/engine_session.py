"""One engine and what is done with it: cells run, completions streamed, neuron sets loaded.

A host is used as it is in this process, and as the body of a Ray actor in another. It keeps many cells in flight at
once; their requests share one limit, so that the engine's batch stays full across the borders of cells.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Protocol

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import EngineFailed
from ampsweep.telemetry.traces import span
from engine.base import Engine, GenerateRequest, Priority, Steering
from jobs.cell import Cell
from jobs.execution import CompletionCall
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.storage.factory import open_storage
from jobs.store.records import CellFile
from worker.engines import EngineSpec, open_engine
from worker.neuron_set_cache import NeuronSetCache
from worker.run_cell import Count, run_cell


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a host needs besides its engine. It travels to other processes, which must see the same folders.

    `neurons` and `results` are addresses of storages: a folder's path, or a prefix in an object store.
    """

    catalog: Catalog
    neurons: str
    results: str
    requests_in_flight: int = 256


class EngineSession(Protocol):
    """An engine as the pool sees it, wherever it lives. A host that has ended is never used again."""

    async def open(self) -> None:
        """Load the model. An error of the input (a model that cannot be steered, say) is raised as what it is."""
        ...

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell; EngineFailed where the engine died. Cancelling it aborts its requests."""
        ...

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return for each cell that runs, by its id and epoch, how many of its samples are done."""
        ...

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's numbers, by their names in `engine.stats`; those that it does not have are left out."""
        ...

    def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion; closing the generator aborts it."""
        ...

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it is there; EngineFailed where the engine died."""
        ...

    async def check(self) -> None:
        """Ask the engine for one token; raise where it cannot give it."""
        ...

    async def ended(self) -> str:
        """Wait until the host is closed or its process has died; return why."""
        ...

    async def close(self) -> None:
        """Free the engine. A second call changes nothing."""
        ...


class LocalEngineSession:
    """A host whose engine lives in this process; `open` comes before all else."""

    def __init__(self, spec: EngineSpec, config: WorkerConfig) -> None:
        self._spec = spec
        self._config = config
        self._results = Results(open_storage(config.results))
        self._requests = asyncio.Semaphore(config.requests_in_flight)
        self._samples: dict[tuple[str, int], Count] = {}
        self._engine: Engine | None = None
        self._neuron_set_cache: NeuronSetCache | None = None

    async def open(self) -> None:
        """Load the model."""
        self._engine = await open_engine(self._spec)
        self._neuron_set_cache = NeuronSetCache(
            neuron_sets_at(self._config.neurons), engine=self._engine, catalog=self._config.catalog
        )

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell."""
        engine, neuron_set_cache = self._opened()
        samples = self._samples[cell.id, epoch] = Count()
        try:
            with (
                span("cell.run", {"cell.id": cell.id, "task": cell.task.name, "model": cell.model}),
                neuron_set_cache.holding(None if cell.neurons is None else cell.neurons.id),
            ):
                return await run_cell(
                    cell,
                    engine=engine,
                    catalog=self._config.catalog,
                    results=self._results,
                    neuron_set_cache=neuron_set_cache,
                    requests=self._requests,
                    epoch=epoch,
                    done=samples,
                )
        finally:
            del self._samples[cell.id, epoch]

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how far the cells are."""
        return {key: samples.value for key, samples in self._samples.items()}

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's numbers."""
        engine, _ = self._opened()
        return {name: value for name, value in asdict(engine.stats()).items() if value is not None}

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        _, neuron_set_cache = self._opened()
        with neuron_set_cache.holding(call.neurons):
            async with aclosing(self._stream(call)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        engine, neuron_set_cache = self._opened()
        steering = None
        if call.intervention is not None:
            assert call.neurons is not None, "whoever asks has chosen the neuron set"
            neurons = await neuron_set_cache.load(NeuronsRef(id=call.neurons))
            steering = Steering(intervention=call.intervention, neurons=neurons)
        request = GenerateRequest(
            prompt=call.prompt, sampling=call.sampling, steering=steering, priority=Priority.INTERACTIVE
        )
        async with aclosing(engine.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it is there."""
        _, neuron_set_cache = self._opened()
        await neuron_set_cache.load(ref)

    async def check(self) -> None:
        """Ask the engine for one token."""
        engine, _ = self._opened()
        request = GenerateRequest(prompt="1", sampling=SamplingParams(max_tokens=1))
        async with aclosing(engine.generate(request)) as chunks:
            async for _chunk in chunks:
                return
        raise EngineFailed("the engine answered nothing")

    async def ended(self) -> str:
        """Wait until the host is closed or its engine has died; return why."""
        return "the engine was closed" if self._engine is None else await self._engine.ended()

    async def close(self) -> None:
        """Free the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    def _opened(self) -> tuple[Engine, NeuronSetCache]:
        if self._engine is None or self._neuron_set_cache is None:
            raise EngineFailed("the engine is closed")
        return self._engine, self._neuron_set_cache
