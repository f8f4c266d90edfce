"""Tests steering in the core of a vLLM engine before its first request; see `engine.steering.self_test`."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

from ampsweep.domain.generation.chunk import Chunk, TokenLogprob
from ampsweep.domain.generation.prompt import TokenIds
from engine.base import EngineInfo, GenerateRequest
from engine.neurons.neuron_set import NeuronSet
from engine.steering.self_test import Decoded, run_self_test
from engine.vllm.plugin.configuration import describe
from engine.vllm.plugin.front_end import FrontEnd
from engine.vllm.requests.request_extras import KEY
from engine.vllm.requests.slot_entries import workers_take_statistics

_PROMPT_TOKENS = 12


def test_core(core: Any) -> None:
    """Test an `EngineCore` that has no requests yet, in the thread that steps it.

    Raises:
        SteeringNotInstalled: The test failed.
    """
    engine = CoreEngine(core)
    vocabulary = core.vllm_config.model_config.get_vocab_size()
    prompt = TokenIds(tuple((7 * index + 11) % vocabulary for index in range(_PROMPT_TOKENS)))
    measures = [Decoded(engine, prompt, scope="all"), Decoded(engine, prompt, scope="generation")]
    _run(run_self_test(engine, measures))
    engine.close()


test_core.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest's


class CoreEngine:
    """Generates greedily with an `EngineCore` from token ids, a step of the core at a time."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._info = describe(core.vllm_config)
        self._front_end: FrontEnd | None = None
        self._loaded: list[str] = []
        self._numbers = itertools.count()
        self._outputs: dict[str, list[Any]] = {}

    @property
    def info(self) -> EngineInfo:
        """The model."""
        return self._info

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load the neuron set of all later requests."""
        statistics = workers_take_statistics(self._core.vllm_config)
        self._front_end = FrontEnd(self._info, neurons, {}, statistics=statistics)
        self._core.model_executor.collective_rpc("steering_add_neurons", args=(neurons,))
        self._loaded.append(neurons.id)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Yield the tokens of the answer to token ids, with the likeliest ones, when it is complete."""
        request_id = f"ampsweep-self-test-{next(self._numbers)}"
        outputs = self._outputs[request_id] = []
        self._core.scheduler.add_request(self._core.preprocess_add_request(self._core_request(request_id, request))[0])
        await asyncio.sleep(0)  # requests that are sent together share their steps
        while not (outputs and outputs[-1].finished):
            self._step()
            await asyncio.sleep(0)
        assert isinstance(request.prompt, TokenIds)
        for output in outputs:
            yield _chunk(output, prompt_tokens=len(request.prompt.ids))

    def close(self) -> None:
        """Unload the neuron sets, and empty the prefix cache."""
        for neurons in self._loaded:
            self._core.model_executor.collective_rpc("steering_drop_neurons", args=(neurons,))
        while self._core.scheduler.has_requests():  # the last step tells the workers which requests have ended
            self._step()
        self._core.reset_prefix_cache()

    def _core_request(self, request_id: str, request: GenerateRequest) -> Any:
        from vllm import SamplingParams
        from vllm.v1.engine import EngineCoreRequest

        assert isinstance(request.prompt, TokenIds)
        steering = request.steering
        core_request = EngineCoreRequest(
            request_id=request_id,
            prompt_token_ids=list(request.prompt.ids),
            mm_features=None,
            sampling_params=SamplingParams(
                max_tokens=request.sampling.max_tokens,
                temperature=0.0,
                ignore_eos=True,
                logprobs=request.sampling.top_logprobs,
                detokenize=False,
                extra_args=None if steering is None else {KEY: steering.intervention.to_dict()},
            ),
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        assert self._front_end is not None
        self._front_end.steer(core_request)
        return core_request

    def _step(self) -> None:
        outputs, _ = self._core.step_fn()
        for client in (outputs or {}).values():
            for output in client.outputs:
                if output.request_id in self._outputs:
                    self._outputs[output.request_id].append(output)


def _chunk(output: Any, *, prompt_tokens: int) -> Chunk:
    """Return the tokens of an `EngineCoreOutput`; the first column of its log-probabilities is the token itself."""
    logprobs = output.new_logprobs
    rows = list(zip(logprobs.logprob_token_ids.tolist(), logprobs.logprobs.tolist(), strict=True))
    return Chunk(
        text="",
        token_ids=tuple(output.new_token_ids),
        token_texts=("",) * len(rows),
        text_offsets=(0,) * len(rows),
        logprobs=tuple(values[0] for _, values in rows),
        top_logprobs=tuple(
            tuple(TokenLogprob(token, value, "") for token, value in zip(tokens[1:], values[1:], strict=True))
            for tokens, values in rows
        ),
        prompt_tokens=prompt_tokens,
    )


def _run(test: Any) -> None:
    """Run a coroutine to its end, in a thread of its own where this one already runs an event loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(test)
        return
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(test)
        except BaseException as error:  # noqa: BLE001  # raised below
            failures.append(error)

    thread = threading.Thread(target=run, name="ampsweep-self-test")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
