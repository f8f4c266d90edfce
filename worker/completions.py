"""Interactive generation on the engines that also run the sweeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from ampsweep.errors import InvalidRequest
from jobs.catalog import Catalog
from jobs.neuron_sets import NeuronSets
from jobs.ports import CompletionCall, CompletionChunk
from worker.pool import Pool


class PoolCompletions:
    """Completions out of a pool; a steered call that names no neuron set takes the newest one of its model."""

    def __init__(self, pool: Pool, *, catalog: Catalog, neuron_sets: NeuronSets) -> None:
        self._pool = pool
        self._catalog = catalog
        self._neuron_sets = neuron_sets

    async def stream(self, call: CompletionCall) -> AsyncGenerator[CompletionChunk]:
        """Stream a completion; closing the generator aborts it.

        Before the first chunk: UnknownName for a model, language or layer that is not there, NotFound for a neuron
        set, InvalidRequest for too long a prompt, Unavailable while the engine starts.
        """
        self._catalog.model_path(call.model)
        if call.intervention is not None:
            call = replace(call, neurons=await asyncio.to_thread(self._neurons, call))
        async with aclosing(self._pool.stream(call)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _neurons(self, call: CompletionCall) -> str:
        if call.neurons is not None:
            return self._neuron_sets.get(call.neurons).id
        made_for_it = self._neuron_sets.made_for(self._catalog.model(call.model).fingerprint)
        if not made_for_it:
            raise InvalidRequest(
                f"model {call.model!r} has no neuron set yet; identify one, or name one by `neurons`", param="neurons"
            )
        return made_for_it[-1].id
