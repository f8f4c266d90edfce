"""Tests a vLLM release with which the patch was never tested, after the engine's self-test.

The self-test scores one short text at a time. This test covers what a changed release could break without an error:
the scope of an intervention in decode steps, the salts of the prefix cache, prompts that are split among steps, and
batches of several interventions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import SteeringNotInstalled
from engine.base import Engine, GenerateRequest, ScoreRequest, Steering
from engine.neurons.neuron_set import NeuronSet

if TYPE_CHECKING:
    from vllm import LLMEngine

    from engine.vllm.loop import EngineLoop

_CONTEXT = " ".join(map(str, range(40)))  # several blocks of the prefix cache
_OTHER_CONTEXT = " ".join(map(str, range(50, 90)))
_CONTINUATION = " 6 7 8 9"
_CHUNK = 16
"""Tokens of a prompt in one step, where prompts are split."""
_SPLIT_STEPS = 3
"""Fewest steps of a split prompt; one that is not split takes one or two."""
_ROUNDING = 1e-3
"""Largest difference in float32 between log-probabilities that should be equal; batches are rounded differently."""
_ROUNDING_SHARE = 0.25
"""The same in 16 bits, as a share of what the intervention changes."""

Logprobs = NDArray[np.float64]
"""Log-probabilities; also pairs of a token's id and its log-probability."""
SplitPrompts = Callable[[int], AbstractAsyncContextManager[None]]
"""Limits the number of tokens that the engine computes in a step, during the block."""


async def release_test(engine: Engine, neurons: NeuronSet, split_prompts: SplitPrompts) -> None:
    """Test generation scope, prefix cache, split prompts and mixed batches.

    Args:
        engine: The engine.
        neurons: A loaded neuron set; its first language is amplified.
        split_prompts: Splits prompts among steps.

    Raises:
        SteeringNotInstalled: The test failed; the message says at what.
    """
    test = _ReleaseTest(engine, neurons)
    await test.generation_scope()
    await test.prefix_cache()
    await test.split_prompts(split_prompts)
    await test.mixed_batch()


class _ReleaseTest:
    def __init__(self, engine: Engine, neurons: NeuronSet) -> None:
        self._engine = engine
        self._neurons = neurons.id
        self._language = neurons.languages[0]
        self._layers = list(range(engine.info.layers))

    async def generation_scope(self) -> None:
        """Check that scope `generation` leaves the prompt alone and changes the decode steps."""
        plain = await self._decoded(None)
        prompt = await self._decoded(self._steering(10.0, scope="prompt"))
        steered = await self._decoded(self._steering(10.0, scope="generation"))
        change = _distance(plain[:1], prompt[:1])
        self._require_change(change, "scope 'prompt' had no effect on the first generated token")
        self._require_same(plain[:1], steered[:1], change, "scope 'generation' changed the prompt")
        self._require_change(_distance(plain[1:], steered[1:]), "scope 'generation' had no effect in decode steps")

    async def prefix_cache(self) -> None:
        """Check that texts with and without an intervention do not read each other's blocks."""
        steering = self._steering(10.0)
        plain, steered = await self._score(None), await self._score(steering)
        change = _distance(plain, steered)
        self._require_change(change, "a strong intervention had no effect on a long text")
        self._require_same(plain, await self._score(None), change, "unsteered text read steered prefix-cache blocks")
        self._require_same(steered, await self._score(steering), change, "steered text read unsteered cache blocks")

    async def split_prompts(self, split: SplitPrompts) -> None:
        """Check that a prompt that is split among steps is steered like a whole one."""
        plain = await self._score(None, context=_OTHER_CONTEXT)
        whole = await self._score(self._steering(10.0), context=_OTHER_CONTEXT)
        async with split(_CHUNK):
            before = self._engine.stats().steps
            # The same edits under another key, so that the prefix cache holds none of the prompt.
            chunked = await self._score(self._steering(10.0, layers=self._layers), context=_OTHER_CONTEXT)
            steps = self._engine.stats().steps - before
        if steps < _SPLIT_STEPS:
            raise self._failure("a long prompt was not split among steps, so chunked prefill could not be tested")
        self._require_same(
            whole, chunked, _distance(plain, whole), "a prompt split among steps was steered differently"
        )

    async def mixed_batch(self) -> None:
        """Check that requests in one batch each get their own intervention."""
        steerings = (None, self._steering(10.0), self._steering(-10.0))
        single = [await self._score(steering) for steering in steerings]
        together = await asyncio.gather(*map(self._score, steerings))
        self._require_change(_distance(single[1], single[2]), "two different interventions had the same effect")
        change = min(_distance(single[0], single[1]), _distance(single[1], single[2]))
        for separate, batched in zip(single, together, strict=True):
            self._require_same(separate, batched, change, "a request in a mixed batch was steered differently")

    def _steering(self, factor: float, **more: object) -> Steering:
        fields = {"languages": [self._language], "op": "set", "factor": factor, **more}
        return Steering(intervention=Intervention.from_dict(fields), neurons=self._neurons)

    async def _score(self, steering: Steering | None, *, context: str = _CONTEXT) -> Logprobs:
        request = ScoreRequest(context=context, continuation=_CONTINUATION, steering=steering)
        return np.asarray((await self._engine.score(request)).logprobs)

    async def _decoded(self, steering: Steering | None) -> Logprobs:
        """Return ids and log-probabilities of four greedily generated tokens, [4, 2]."""
        sampling = SamplingParams(max_tokens=4, ignore_eos=True)
        request = GenerateRequest(prompt=_CONTEXT, sampling=sampling, steering=steering)
        chunks = [chunk async for chunk in self._engine.generate(request)]
        return np.array([token for chunk in chunks for token in zip(chunk.token_ids, chunk.logprobs, strict=True)])

    def _require_change(self, change: float, problem: str) -> None:
        if not change > _ROUNDING:
            raise self._failure(problem)

    def _require_same(self, first: Logprobs, second: Logprobs, change: float, problem: str) -> None:
        """Raise SteeringNotInstalled unless two results differ by rounding alone; the intervention makes `change`."""
        allowed = _ROUNDING if self._engine.info.dtype == "float32" else _ROUNDING_SHARE * min(change, 1.0)
        if not _distance(first, second) <= allowed:
            raise self._failure(f"{problem}: log-probabilities {first.tolist()} became {second.tolist()}")

    def _failure(self, problem: str) -> SteeringNotInstalled:
        return SteeringNotInstalled(f"{self._engine.info.model_class}: {problem}; install a tested release of vLLM")


@asynccontextmanager
async def split_prompts(loop: EngineLoop, tokens: int) -> AsyncIterator[None]:
    """Make vLLM compute at most `tokens` tokens in each step, for the block."""
    limit = await loop.call(partial(_limit_steps, tokens=tokens))
    try:
        yield
    finally:
        await loop.call(partial(_limit_steps, tokens=limit))


def _limit_steps(engine: LLMEngine, *, tokens: int) -> int:
    """Set how many tokens a step computes at most, and return the limit until now.

    vLLM's threshold for long prompts would not do: it splits no prompt that is alone.
    """
    core: Any = engine.engine_core
    scheduler = core.engine_core.scheduler
    limit: int = scheduler.max_num_scheduled_tokens
    scheduler.max_num_scheduled_tokens = tokens
    return limit


def _distance(first: Logprobs, second: Logprobs) -> float:
    return float(np.max(np.abs(first - second)))
