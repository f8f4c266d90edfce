"""The calls of a task as requests to an engine, under one condition: steering, seed, adapter, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampsweep.domain.generation.chunk import joined_spans
from ampsweep.domain.generation.prompt import PromptOptions
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest, UnknownName
from engine.base import Engine, GenerateRequest, Priority, ScoreRequest, Steering
from jobs.tasks.requests import Answer, Call, GenerateCall, ScoreCall


@dataclass(frozen=True, kw_only=True)
class TaskCalls:
    """Answers calls of a task under one condition, that of a cell for example.

    Attributes:
        engine: The engine.
        steering: How its answers are steered, if they are.
        seed: The seed of calls that have none of their own.
        adapter: The engine's name of the LoRA adapter that answers, if one does.
        variables: The variables of the chat template.
    """

    engine: Engine
    steering: Steering | None
    seed: int
    adapter: str | None = None
    variables: Mapping[str, Any] | None = None

    async def answer(self, call: Call) -> Answer:
        """Return the engine's answer to a call; one with an `error` if the engine rejects the call.

        Raises:
            EngineFailed: The engine died.
            UnknownName: The neuron set lacks a language or layer of the intervention, or the engine the adapter.
        """
        try:
            return await (self._score(call) if isinstance(call, ScoreCall) else self._generate(call))
        except UnknownName:
            raise  # caused by the steering or the adapter, which are the same for all calls
        except InvalidRequest as error:
            return Answer(error=error.message)

    async def _score(self, call: ScoreCall) -> Answer:
        request = ScoreRequest(
            context=call.context,
            continuation=call.continuation,
            split=call.split,
            options=call.options,
            chat_template_kwargs=self.variables or {},
            steering=self.steering,
            adapter=self.adapter,
            priority=Priority.BATCH,
        )
        score = await self.engine.score(request)
        return Answer(
            token_ids=score.token_ids,
            logprobs=score.logprobs,
            prompt_tokens=score.context_tokens,
            spanned_join=score.spanned_join,
        )

    async def _generate(self, call: GenerateCall) -> Answer:
        sampling = SamplingParams(
            max_tokens=call.max_tokens,
            stop=call.stop,
            temperature=call.temperature,
            top_p=call.top_p,
            seed=self.seed if call.seed is None else call.seed,
        )
        request = GenerateRequest(
            prompt=call.prompt,
            strip=call.strip,
            options=PromptOptions(chat_template_kwargs=self.variables or {}),
            sampling=sampling,
            stream=False,
            steering=self.steering,
            adapter=self.adapter,
            priority=Priority.BATCH,
        )
        chunks = [chunk async for chunk in self.engine.generate(request)]
        spans = joined_spans(chunk.steered_spans for chunk in chunks)
        return Answer(
            token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
            logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
            prompt_tokens=chunks[-1].prompt_tokens if chunks else 0,
            text="".join(chunk.text for chunk in chunks),
            steered_spans=None if spans is None else tuple(spans),
        )
