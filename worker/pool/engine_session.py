"""Sessions of an engine: run cells, stream completions, capture activations and identify neuron sets on one model.

`LocalEngineSession` runs in the current process; a Ray actor contains one too (see `worker.pool.ray_actor`). A session
keeps many cells in flight. Their requests share one limit, so that the engine's batch stays full across cell
boundaries. It does not know which cells it gets, or when it is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Protocol

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import PromptTokens
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import EngineFailed
from ampsweep.telemetry.traces import span
from engine.base import Engine, GenerateRequest, Priority, Steering
from jobs.cell import Cell
from jobs.execution import CaptureCall, CompletionCall, TokenizeCall
from jobs.neuron_sets.bucket import neuron_sets_at
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.storage.factory import open_storage
from jobs.store.records import CellFile
from worker.capture import capture
from worker.engines import EngineSpec, open_engine
from worker.neuron_set_cache import NeuronSetCache
from worker.run_cell import REQUESTS_IN_FLIGHT, Count, run_cell

CAPTURES_AT_ONCE = 2
"""Calls whose activations an engine computes and holds in memory at the same time; further ones wait in their order."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a session needs besides its engine. It is sent to other processes, which must see the same folders.

    Attributes:
        catalog: The models, corpora and data sets of the server.
        neurons: Address of the storage of neuron sets: the path of a folder, or a prefix in an object store.
        results: Address of the storage of results, likewise.
    """

    catalog: Catalog
    neurons: str
    results: str


class EngineSession(Protocol):
    """One start of an engine, in this process or another. A session that has ended is never used again.

    Methods other than `open`, `ended` and `close` raise EngineFailed if the engine has died.
    """

    async def open(self) -> None:
        """Load the model. Errors of the input, for example UnsupportedModel, are raised unchanged."""
        ...

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        """Compute and publish a cell. Cancelling the call aborts its requests."""
        ...

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how many samples of each running cell are done, by the cell's id and epoch."""
        ...

    async def recordings(self) -> Mapping[str, RecordingProgress]:
        """Return how far the neuron sets are that are being identified, by the set's id."""
        ...

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's statistics, by their names in `engine.stats`; without those it does not have."""
        ...

    def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion; closing the generator aborts it."""
        ...

    async def capture(self, call: CaptureCall) -> bytes:
        """Return the activations of texts in the form that the call asks for. Cancelling the call aborts it."""
        ...

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, and their text."""
        ...

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it exists already."""
        ...

    async def check(self) -> None:
        """Generate one token; raise an error if the engine cannot."""
        ...

    async def ended(self) -> str:
        """Wait until the session is closed or its engine has died; return the reason."""
        ...

    async def close(self) -> None:
        """Free the engine. A second call does nothing."""
        ...


class LocalEngineSession:
    """A session whose engine runs in this process. Call `open` before any other method."""

    def __init__(self, spec: EngineSpec, config: WorkerConfig) -> None:
        self._spec = spec
        self._config = config
        self._results = Results(open_storage(config.results))
        self._requests = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
        self._captures = asyncio.Semaphore(CAPTURES_AT_ONCE)
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
                neuron_set_cache.pinned(None if cell.neurons is None else cell.neurons.id),
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
        """Return how many samples of each running cell are done."""
        return {key: samples.value for key, samples in self._samples.items()}

    async def recordings(self) -> Mapping[str, RecordingProgress]:
        """Return how far the neuron sets are that are being identified."""
        _, neuron_set_cache = self._opened()
        return neuron_set_cache.recordings()

    async def stats(self) -> Mapping[str, float]:
        """Return the engine's statistics."""
        engine, _ = self._opened()
        return {name: value for name, value in asdict(engine.stats()).items() if value is not None}

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion."""
        engine, neuron_set_cache = self._opened()
        with neuron_set_cache.pinned(call.neurons):
            steering = None
            if call.intervention is not None:
                assert call.neurons is not None, "the caller resolves the default neuron set"
                neurons = await neuron_set_cache.load(NeuronsRef(id=call.neurons))
                steering = Steering(intervention=call.intervention, neurons=neurons)
            async with aclosing(engine.generate(_generate_request(call, steering))) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def capture(self, call: CaptureCall) -> bytes:
        """Return the activations of texts in the form that the call asks for."""
        engine, neuron_set_cache = self._opened()
        async with self._captures:
            with neuron_set_cache.pinned(call.neurons):
                neuron_set = None if call.neurons is None else await neuron_set_cache.get(NeuronsRef(id=call.neurons))
                return await capture(engine, call, neuron_set=neuron_set)

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, and their text."""
        engine, _ = self._opened()
        return await asyncio.to_thread(_tokenize, engine, call)

    async def find_neurons(self, ref: NeuronsRef) -> None:
        """Identify a neuron set and publish it, unless it exists already."""
        _, neuron_set_cache = self._opened()
        await neuron_set_cache.load(ref)

    async def check(self) -> None:
        """Generate one token."""
        engine, _ = self._opened()
        request = GenerateRequest(prompt="1", sampling=SamplingParams(max_tokens=1))
        async with aclosing(engine.generate(request)) as chunks:
            async for _chunk in chunks:
                return
        raise EngineFailed("the engine returned no token")

    async def ended(self) -> str:
        """Wait until the session is closed or its engine has died; return the reason."""
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


def _generate_request(call: CompletionCall, steering: Steering | None) -> GenerateRequest:
    return GenerateRequest(
        prompt=call.prompt,
        sampling=call.sampling,
        steering=steering,
        adapter=call.adapter,
        prompt_logprobs=call.prompt_logprobs,
        return_token_ids=call.return_token_ids,
        stream=call.stream,
        priority=max(call.priority, Priority.BATCH if call.background else Priority.INTERACTIVE),
        tools=call.tools,
        parse_tools=call.parse_tools,
        options=call.options,
    )


def _tokenize(engine: Engine, call: TokenizeCall) -> PromptTokens:
    encoder = engine.encoder
    ids = encoder.tokens(call.prompt, tools=call.tools, options=call.options)
    text = encoder.text(ids)  # rejects ids that do not exist
    return PromptTokens(ids=ids, token_strs=encoder.token_strs(ids), text=text, max_model_len=engine.info.max_model_len)
