"""The product's engine: vLLM, in which every request of a batch carries its own intervention.

A request's prefix-cache blocks are salted by its intervention, so steered and unsteered prefixes never mix.
`engine.vllm.requests.conversion` builds what is sent to vLLM, `engine.vllm.worker` holds what runs inside its workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ampsweep.concurrency import task_group
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.languages.identifier import LanguageIdentifier
from ampsweep.errors import EngineFailed, InvalidRequest
from ampsweep.folders.corpus import Sentence
from ampsweep.folders.model import ModelFolder, read_model_folder
from ampsweep.telemetry.start_phase import report_phase, reporting_from_here
from engine.base import (
    Capture,
    CaptureRequest,
    EngineInfo,
    EngineStats,
    GenerateRequest,
    Priority,
    Score,
    ScoreRequest,
    Steering,
    TokenCounts,
)
from engine.chat_template import read_chat_template
from engine.checkpoint import check_checkpoint, check_tokenizer, warn_without_bos
from engine.detokenizer import TokenTexts
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence
from engine.identify.stats import ActivationStats
from engine.neurons.neuron_set import NeuronSet
from engine.overflow import require_numbers
from engine.steering.answer_switch import reject_running_text, switches_of
from engine.steering.self_test import self_test
from engine.steering.thinking import markers_of
from engine.tokenization import SentenceTokens, TextEncoder, encoded, encoded_prompt
from engine.vllm.adapters import Adapters, check_effects
from engine.vllm.admission import SlotAdmission
from engine.vllm.launch import backend_of, loaded_model, require_capture, start_llm_engine
from engine.vllm.loop import EngineLoop, WorkerResult
from engine.vllm.options import table_entries
from engine.vllm.recording import RecordingThread
from engine.vllm.release_test import release_test, split_prompts
from engine.vllm.requests.answers import Answers
from engine.vllm.requests.conversion import cache_salt, is_long, token_prompt
from engine.vllm.requests.one_pass import OnePassRequests, count_cached
from engine.vllm.requests.request_extras import (
    CaptureArgs,
    RequestExtras,
    ScoringArgs,
    steering_args,
    steering_key,
)
from engine.vllm.requests.slot_entries import EntryCounts, workers_take_statistics
from engine.vllm.requests.tool_calls import CallParsers
from engine.vllm.settings import VllmSettings
from engine.vllm.versions import installed_release, reported_version, untested_warning
from engine.vllm.worker.outputs.capturing import join_captured
from engine.vllm.worker.outputs.recording import recording_rows

log = logging.getLogger(__name__)


class VllmEngine:
    """An `Engine` over vLLM. Make one with `open`, which tests that steering works before it returns.

    Example:
        engine = await VllmEngine.open(Path("models/qwen2"), settings=VllmSettings(slots=64))
        engine.add_neurons(neuron_set)
        intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 3.0})
        steering = Steering(intervention=intervention, neurons=neuron_set.id)
        request = ScoreRequest(context="Paris is the capital of", continuation=" France", steering=steering)
        score = await engine.score(request)  # score.logprobs: natural logarithms, one a token
        await engine.close()
    """

    def __init__(
        self,
        info: EngineInfo,
        loop: EngineLoop,
        tokenizer: Any,
        settings: VllmSettings,
        *,
        embedding_rows: int,
        takes_statistics: bool,
        adapters: Adapters | None = None,
        open_identifier: Callable[[], LanguageIdentifier] | None = None,
    ) -> None:
        self._info = info
        self._open_identifier = open_identifier
        self._adapters = adapters or Adapters((), model=info.model, shapes={})
        self._loop = loop
        self.encoder = TextEncoder(tokenizer, embedding_rows=embedding_rows)
        self._texts = TokenTexts(tokenizer)
        self._calls = CallParsers(tokenizer, settings.tool_call_parser)
        self._thinking = markers_of(tokenizer.get_vocab())
        self._slots = settings.slots
        self._admission = SlotAdmission(settings.slots, max_entries=table_entries(info.widths, slots=settings.slots))
        self._entries = EntryCounts(info, statistics=takes_statistics)
        self._tokens = TokenCounts()
        self._one_pass = OnePassRequests(loop, self._tokens)
        self._recording_rows = asyncio.Semaphore(recording_rows(info.widths))  # all recordings share the workers' rows

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        name: str | None = None,
        dtype: str = "float32",
        settings: VllmSettings | None = None,
        open_identifier: Callable[[], LanguageIdentifier] | None = None,
    ) -> VllmEngine:
        """Load the model in `folder` and test that it can be steered.

        Args:
            folder: A Hugging Face model folder.
            name: The model's name in answers and errors; the folder's name by default.
            dtype: "float32", "bfloat16" or "float16".
            settings: How vLLM is run.
            open_identifier: Returns the language identifier for steering that depends on the text of an answer.

        Returns:
            The running engine, which `close` must end.

        Raises:
            UnsupportedModel: The model's MLPs cannot be steered.
            SteeringNotInstalled: The vLLM release was not tested, or a test of this engine failed.
        """
        settings = settings or VllmSettings()
        shape = await asyncio.to_thread(read_model_folder, folder, name=name)
        await asyncio.to_thread(check_checkpoint, folder)
        start = reporting_from_here(partial(start_llm_engine, folder, dtype=dtype, settings=settings))
        loop = EngineLoop(start, asyncio.get_running_loop())
        await loop.start()
        try:
            engine = await cls._described(
                loop, folder, shape, dtype=dtype, settings=settings, open_identifier=open_identifier
            )
            report_phase("testing steering")
            neurons = await self_test(engine)
            await check_effects(engine, tuple(settings.adapters))
            if warning := untested_warning(installed_release()):
                log.warning("%s", warning)
                await release_test(engine, neurons, partial(split_prompts, loop))
        except BaseException:
            await loop.stop()
            raise
        return engine

    @classmethod
    async def _described(
        cls,
        loop: EngineLoop,
        folder: Path,
        shape: ModelFolder,
        *,
        dtype: str,
        settings: VllmSettings,
        open_identifier: Callable[[], LanguageIdentifier] | None = None,
    ) -> VllmEngine:
        """Return the engine over a started loop, described by what vLLM reports about the model."""
        model = await loop.call(loaded_model)
        await asyncio.to_thread(check_tokenizer, model.tokenizer, shape.name)
        await asyncio.to_thread(warn_without_bos, model.tokenizer, folder)
        await asyncio.to_thread(read_chat_template, model.tokenizer, folder)
        shape = await asyncio.to_thread(read_model_folder, folder, name=shape.name)  # of the files that were loaded
        adapters = await asyncio.to_thread(Adapters.read, settings.adapters, model=folder)
        info = EngineInfo(
            kind="vllm",
            model=shape.name,
            fingerprint=shape.fingerprint,
            model_class=model.model_class,
            layers=shape.layers,
            width=shape.width,
            hidden_size=model.hidden_size,
            dtype=dtype,
            max_model_len=model.max_model_len,
            versions={"vllm": reported_version(), "torch": version("torch"), "transformers": version("transformers")},
            adapters=adapters.fingerprints,
        )
        return await asyncio.to_thread(  # it reads the whole vocabulary
            cls,
            info,
            loop,
            model.tokenizer,
            settings,
            embedding_rows=model.embedding_rows,
            takes_statistics=await loop.call(lambda engine: workers_take_statistics(engine.vllm_config)),
            adapters=adapters,
            open_identifier=open_identifier,
        )

    @property
    def info(self) -> EngineInfo:
        """Model, dtype and versions: what answers depend on, together with the requests."""
        return self._info

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set, here and on the workers; see `Engine.add_neurons`."""
        if self._entries.add(neurons):
            self._loop.post(lambda engine: engine.collective_rpc("steering_add_neurons", args=(neurons,)))

    def drop_neurons(self, neuron_set_id: str) -> None:
        """Unload a neuron set, here and on the workers; see `Engine.drop_neurons`."""
        if self._entries.drop(neuron_set_id):
            self._loop.post(lambda engine: engine.collective_rpc("steering_drop_neurons", args=(neuron_set_id,)))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream the answers to a prompt; each answer is a vLLM request. See `Engine.generate`."""
        most, adapter = self._info.max_model_len - 1, self._adapters.request(request.adapter)
        ids = await encoded_prompt(self.encoder, request, max_tokens=most)
        max_new_tokens = self._info.max_model_len - len(ids)
        self.encoder.check_sampling(request.sampling, prompt_tokens=len(ids), max_model_len=self._info.max_model_len)
        parsing = await self._calls.parsing(request.tools, request.parse_tools)
        new_switch = await switches_of(request.steering, self._open_identifier, markers=self._thinking, prompt=ids)
        async with self._slot(request.steering, request.priority):
            answers = Answers(
                self._loop,
                request,
                ids,
                texts=self._texts,
                parsing=parsing,
                new_switch=new_switch,
                new_key=partial(self._one_pass.name, "switch"),
            )
            begun: set[int] = set()
            try:
                answers.submit(max_new_tokens=max_new_tokens, adapter=adapter)
                while answers.unfinished:
                    index, output = await answers.next()
                    if index not in begun:
                        begun.add(index)
                        self._tokens.prompt += len(ids)
                    count_cached(self._tokens, output)
                    read = partial(answers.readers[index].read, output)
                    chunk = await asyncio.to_thread(read) if is_long(output) else read()
                    self._tokens.generated += len(chunk.token_ids)
                    self._require_numbers(chunk.logprobs, request.steering)
                    self._require_numbers(() if chunk.prompt is None else chunk.prompt.logprobs, request.steering)
                    yield chunk
            finally:
                answers.abort()

    async def score(self, request: ScoreRequest) -> Score:
        """Return the log-probabilities of a continuation; see `Engine.score`."""
        reject_running_text(request.steering)
        adapter = self._adapters.request(request.adapter)
        encode = partial(self.encoder.scored, request, max_tokens=self._info.max_model_len - 1)
        tokens = await encoded(request.context, encode)
        *fed, last = tokens.context + tokens.continuation
        boundary = len(tokens.context)
        key = self._one_pass.name("score")
        score = ScoringArgs(key=key, first=boundary, last=last)
        extras = RequestExtras(steer=steering_args(request.steering, boundary), score=score)
        prompt = token_prompt(tuple(fed), cache_salt(request.steering, boundary))
        async with self._slot(request.steering, request.priority):
            result = WorkerResult(kind="score", key=key)
            await self._one_pass.run(prompt, extras, request.priority, result, adapter=adapter)
        if (computed := next((part for part in result.parts if part is not None), None)) is None:
            raise EngineFailed("no worker scored the continuation")
        logprobs = tuple(computed.tolist())
        self._require_numbers(logprobs, request.steering)
        return Score(
            token_ids=tokens.continuation,
            logprobs=logprobs,
            context_tokens=boundary,
            spanned_join=tokens.spanned_join,
        )

    async def record(self, sentences: Iterable[Sentence], request: RecordRequest) -> ActivationStats:
        """Record activations and residuals over a corpus; see `Engine.record`. Residuals are counted on a CPU only."""
        backend = await self._loop.call(backend_of)
        if request.residual_counts and backend != "cpu":
            message = "the CUDA backend does not count the residual stream; identify on a CPU, or use the engine"
            raise InvalidRequest(f"{message} transformers", param="residual_counts")
        recording = RecordingThread(
            self._one_pass.name("recording"),
            self.encoder,
            self._info.widths,
            request,
            hidden_size=self._info.hidden_size,
            max_sentence_tokens=self._info.max_model_len - 1,
            grouped=backend != "cpu",  # the engine's thread would be busy instead of the recording's
        )
        try:
            async with task_group() as group:
                async for admission, tokens in recording.admitted(sentences):
                    await self._recording_rows.acquire()
                    task = group.create_task(self._record_one(recording, admission, tokens))
                    # Once its parts, which are in memory, are summed; also if it is cancelled before it starts.
                    task.add_done_callback(lambda _: self._recording_rows.release())
            return await recording.finish()
        finally:
            recording.close()

    async def capture(self, request: CaptureRequest) -> Capture:
        """Return the activations of neurons at each token of a prompt; see `Engine.capture`. Not from CUDA graphs."""
        reject_running_text(request.steering)
        await self._loop.call(require_capture)
        adapter = self._adapters.request(request.adapter)
        encode = partial(self.encoder.prompt, request.prompt, max_tokens=self._info.max_model_len - 1)
        ids = await encoded(request.prompt, encode)
        prompt_tokens = len(ids) if request.prompt_tokens is None else request.prompt_tokens
        result = WorkerResult(kind="capture", key=self._one_pass.name("capture"))
        extras = RequestExtras(
            steer=steering_args(request.steering, prompt_tokens),
            capture=CaptureArgs.of(result.key, request.neurons, self._info.widths),
        )
        prompt = token_prompt(ids, cache_salt(request.steering, prompt_tokens))
        async with self._slot(request.steering, request.priority):
            await self._one_pass.run(prompt, extras, request.priority, result, adapter=adapter)
        join = partial(join_captured, result.parts, request.neurons, tokens=len(ids))
        texts, activations = await asyncio.to_thread(lambda: (tuple(self._texts[token] for token in ids), join()))
        return Capture(token_ids=ids, token_texts=texts, activations=activations)

    async def slots_in_use(self) -> int:
        """Return how many distinct interventions the workers hold for requests that have not ended."""
        counts: list[int] = await self._loop.call(lambda engine: engine.collective_rpc("steering_slots_in_use"))
        return max(counts)

    def stats(self) -> EngineStats:
        """Return token counts, steps and queue lengths; see `Engine.stats`."""
        scheduled, tokens = self._loop.scheduled, self._tokens
        return EngineStats(
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            generated_tokens=tokens.generated,
            steps=self._loop.steps,
            step_requests=self._loop.step_requests,
            running=scheduled.running,
            waiting=scheduled.waiting,
            batch_size=scheduled.batch_size,
            kv_use=scheduled.kv_use,
            slots=self._slots,
            slots_used=self._admission.in_use,
            slots_waiting=self._admission.waiting,
        )

    async def ended(self) -> str:
        """Wait until the engine is closed or dies and return the reason; see `Engine.ended`."""
        return await self._loop.ended()

    async def close(self) -> None:
        """Fail all requests in flight and free the model."""
        await self._loop.stop()

    async def _record_one(
        self, recording: RecordingThread, admission: AdmittedSentence, tokens: SentenceTokens
    ) -> None:
        key = self._one_pass.name("record")
        result = WorkerResult(kind="recording", key=key)
        extras = RequestExtras(record=recording.begin(key, admission, tokens))
        await self._one_pass.run(token_prompt(tokens.ids, None), extras, Priority.BATCH, result)
        if None not in result.parts:  # otherwise those of another sentence have it too
            await recording.add(result.parts)

    def _require_numbers(self, logprobs: Iterable[float | None], steering: Steering | None) -> None:
        require_numbers(logprobs, dtype=self._info.dtype, steered=steering is not None)

    def _slot(self, steering: Steering | None, priority: int) -> AbstractAsyncContextManager[None]:
        """Return a context manager that holds a slot, after checking that a worker can resolve the intervention."""
        if steering is None:
            return self._admission.hold(None)
        entries = self._entries.of(steering)
        return self._admission.hold(steering_key(steering), size=entries, priority=priority)
