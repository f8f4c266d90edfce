"""Interactive completions and captures on the engines that also run the sweeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import PromptTokens
from ampsweep.errors import InvalidRequest, NotFound
from jobs.execution import CaptureCall, CompletionCall, TokenizeCall
from jobs.neuron_sets.default import chosen_neuron_set
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from worker.pool.pool import Pool

log = logging.getLogger(__name__)

Call = TypeVar("Call", CompletionCall, CaptureCall)


class PoolCompletions:
    """Streams completions from a pool. A steered call that names no neuron set uses the default set of its model."""

    def __init__(self, pool: Pool, *, catalog: Catalog, neuron_sets: NeuronSets) -> None:
        self._pool = pool
        self._catalog = catalog
        self._neuron_sets = neuron_sets

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion; closing the generator aborts it.

        All errors of the request are raised before the first chunk.

        Raises:
            UnknownName: The model, the adapter, the language or the layer does not exist.
            NotFound: The neuron set does not exist.
            InvalidRequest: The prompt is too long, or the choice of neuron set, or of an adapter's model, is ambiguous.
            Unavailable: The engine is still starting.
        """
        call = self._adapted(call)
        if call.intervention is not None:
            call = replace(call, neurons=await self._neuron_set_id(call))
            log.info("steering a completion", extra={"model": call.model, "neuron_set": call.neurons})
        async with aclosing(self._pool.stream(call)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def capture(self, call: CaptureCall) -> bytes:
        """Return the activations of texts; see `CompletionService.capture`."""
        call = self._adapted(call)
        if call.needs_neuron_set:
            call = replace(call, neurons=await self._neuron_set_id(call))
        log.info("capturing activations", extra={"model": call.model, "neuron_set": call.neurons})
        return await self._pool.capture(call)

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, and their text.

        Raises:
            UnknownName: The model does not exist.
            InvalidRequest: The chat cannot be formatted, a token does not exist, or several models have the adapter.
            Unavailable: The engine is still starting.
        """
        model, _ = self._model_and_adapter(call.model)
        self._catalog.model_path(model)
        return await self._pool.tokenize(replace(call, model=model))

    def _adapted(self, call: Call) -> Call:
        """Return the call to a model with an adapter if `call` gives the name of an adapter as its model.

        Raises:
            UnknownName: The model or the adapter does not exist.
            InvalidRequest: Several models have the adapter.
        """
        if call.adapter is None:
            model, adapter = self._model_and_adapter(call.model)
            call = replace(call, model=model, adapter=adapter)
        self._catalog.model_path(call.model)
        if call.adapter is not None:
            self._catalog.adapter_path(call.adapter, model=call.model)
        return call

    def _model_and_adapter(self, name: str) -> tuple[str, str | None]:
        """Return the model and the adapter that a name of a model means.

        Clients of OpenAI's API can name a model, but have no field for an adapter.
        """
        catalog = self._catalog
        if name in catalog.models:
            return name, None
        models = sorted(model for model, adapters in catalog.adapters.items() if name in adapters)
        if len(models) > 1:
            message = f"the models {', '.join(models)} have an adapter {name}"
            raise InvalidRequest(f"{message}; name one of them, and the adapter in the field adapter", param="model")
        return (models[0], name) if models else (name, None)

    async def _neuron_set_id(self, call: Call) -> str:
        """Return the id of the neuron set of a call; if it is being identified now, the error says how far that is."""
        try:
            return await asyncio.to_thread(self._known_neuron_set, call)
        except (InvalidRequest, NotFound) as error:
            recordings = await self._pool.recordings(call.model)
            wanted = {each: progress for each, progress in recordings.items() if call.neurons in (None, each)}
            if not wanted or (call.neurons is None and await asyncio.to_thread(self._has_neuron_set, call.model)):
                raise
            found = ", ".join(f"{each} is being identified ({progress.text()})" for each, progress in wanted.items())
            subject = (
                "the neuron set does not exist yet" if call.neurons else f"model {call.model!r} has no neuron set yet"
            )
            message = f"{subject}: {found}; send the request again when it is completed"
            raise type(error)(message, param="neurons") from error

    def _known_neuron_set(self, call: Call) -> str:
        if call.neurons is not None:
            return self._neuron_sets.get(call.neurons).id
        fingerprint = self._catalog.model(call.model).fingerprint
        return chosen_neuron_set(fingerprint, self._neuron_sets, model=call.model)

    def _has_neuron_set(self, model: str) -> bool:
        return bool(self._neuron_sets.made_for(self._catalog.model(model).fingerprint))
