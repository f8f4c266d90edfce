"""The reference implementation: a Hugging Face model with plain hooks, one request at a time.

The tests compare the other engines' answers with this one's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.languages.identifier import LanguageIdentifier
from ampsweep.errors import EngineFailed
from ampsweep.folders.corpus import Sentence
from engine.base import (
    Capture,
    CaptureRequest,
    EngineInfo,
    EngineStats,
    GenerateRequest,
    Score,
    ScoreRequest,
    Steering,
    TokenCounts,
    reject_adapter,
)
from engine.hf.generation import Generation
from engine.hf.model import TransformersModel
from engine.identify.batches import in_batches
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence, Recorder
from engine.identify.stats import ActivationStats
from engine.neurons.loaded import LoadedNeurons
from engine.neurons.neuron_set import NeuronSet
from engine.out_of_memory import named_allocation_failures
from engine.overflow import require_numbers
from engine.sampling import reject_structured_outputs
from engine.steering.answer_switch import reject_running_text, switches_of
from engine.steering.edits import Edits
from engine.steering.token_scope import EVERY_TOKEN, TokenScope
from engine.tokenization import TextEncoder, encoded, encoded_prompt

_Result = TypeVar("_Result")
_CLOSED = "the engine was closed"


class TransformersEngine:
    """An `Engine` on a Hugging Face model. All torch work runs in one thread, so requests take turns."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        dtype: str = "float32",
        max_model_len: int | None = None,
        device: str = "cpu",
        open_identifier: Callable[[], LanguageIdentifier] | None = None,
    ) -> None:
        """Load a model folder.

        Args:
            folder: A Hugging Face model folder.
            name: The model's name in answers and errors; the folder's name by default.
            dtype: "float32", "bfloat16" or "float16".
            max_model_len: Context length in tokens; None is the model's own.
            device: A torch device.
            open_identifier: Returns the language identifier for steering that depends on the text of an answer.

        Raises:
            InvalidRequest: The dtype is unknown, or the folder has no model.
            UnsupportedModel: The model cannot be steered.
        """
        self._model = TransformersModel(
            folder, name=name or folder.name, dtype=dtype, max_model_len=max_model_len, device=device
        )
        self._neurons = LoadedNeurons(self._model.info)
        self._open_identifier = open_identifier
        self._tokens = TokenCounts()
        self._steps = 0
        self._in_turn = 0  # the running step and those that wait for it
        self._closed = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transformers")

    @property
    def info(self) -> EngineInfo:
        """Model, dtype and versions: what answers depend on, together with the requests."""
        return self._model.info

    @property
    def encoder(self) -> TextEncoder:
        """Converts prompts to tokens and back."""
        return self._model.encoder

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set; see `Engine.add_neurons`."""
        self._neurons.add(neurons)

    def drop_neurons(self, neuron_set_id: str) -> None:
        """Drop a neuron set; see `Engine.drop_neurons`."""
        self._neurons.drop(neuron_set_id)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream the answers to a prompt, one token a chunk; the answers take turns."""
        reject_adapter(self.info.kind, request.adapter)
        reject_structured_outputs(self.info.kind, request.sampling)
        edits = self._edits(request.steering)
        neuron_set = None if request.steering is None else request.steering.neurons
        limit = self.info.max_model_len - 1
        prompt = await encoded_prompt(self._model.encoder, request, max_tokens=limit)
        self._model.encoder.check_sampling(
            request.sampling, prompt_tokens=len(prompt), max_model_len=self.info.max_model_len
        )
        new_switch = await switches_of(
            request.steering, self._open_identifier, markers=self._model.thinking, prompt=prompt
        )
        unfinished = deque(
            Generation(
                self._model,
                prompt,
                request.sampling,
                index=index,
                edits=edits,
                scope=_scope(request.steering, prompt_tokens=len(prompt)),
                neuron_set=neuron_set,
                prompt_logprobs=request.prompt_logprobs,
                return_token_ids=request.return_token_ids,
                switch=None if new_switch is None else new_switch(),
            )
            for index in range(request.sampling.n)
        )
        begun = 0
        while unfinished:
            generation = unfinished.popleft()
            chunk = await self._run(generation.step)
            if begun < request.sampling.n:  # the answers take turns, so these are their first chunks
                begun += 1
                self._tokens.prompt += len(prompt)
            self._tokens.generated += len(chunk.token_ids)
            if chunk.finish_reason is None:
                unfinished.append(generation)
            yield chunk

    async def score(self, request: ScoreRequest) -> Score:
        """Return the log-probabilities of a continuation's tokens, from one forward pass."""
        reject_adapter(self.info.kind, request.adapter)
        reject_running_text(request.steering)
        edits = self._edits(request.steering)
        encode = partial(self._model.encoder.scored, request, max_tokens=self.info.max_model_len - 1)
        tokens = await encoded(request.context, encode)
        before = len(tokens.context)

        def run() -> tuple[float, ...]:
            ids = tokens.context + tokens.continuation
            scope = _scope(request.steering, prompt_tokens=before)
            logits, _ = self._model.logits(ids, edits=edits, scope=scope, last=len(tokens.continuation) + 1)
            logprobs = logits[:-1].log_softmax(dim=-1)
            return tuple(logprobs[range(len(logprobs)), tokens.continuation].tolist())

        logprobs = await self._run(run)
        self._tokens.prompt += before + len(tokens.continuation)
        require_numbers(logprobs, dtype=self.info.dtype, steered=edits is not None)
        return Score(
            token_ids=tokens.continuation,
            logprobs=logprobs,
            context_tokens=before,
            spanned_join=tokens.spanned_join,
        )

    async def record(self, sentences: Iterable[Sentence], request: RecordRequest) -> ActivationStats:
        """Record activations and residuals, one sentence at a time; sentences are truncated to the context length."""
        make = partial(Recorder, self.info.widths, request, hidden_size=self.info.hidden_size)
        recorder = await self._run(make)
        work = partial(self._record, recorder, request.residual_counts)
        async for _ in in_batches(self._in_thread, sentences, work):
            self._steps += 1
        return await self._run(recorder.finish)

    async def capture(self, request: CaptureRequest) -> Capture:
        """Return the activations of neurons at each token of a prompt, from one forward pass."""
        reject_adapter(self.info.kind, request.adapter)
        reject_running_text(request.steering)
        edits = self._edits(request.steering)
        encode = partial(self._model.encoder.prompt, request.prompt, max_tokens=self.info.max_model_len - 1)
        ids = await encoded(request.prompt, encode)
        prompt_tokens = len(ids) if request.prompt_tokens is None else request.prompt_tokens
        scope = _scope(request.steering, prompt_tokens=prompt_tokens)

        def run() -> Capture:
            activations = self._model.capture(ids, request.neurons, edits=edits, scope=scope)
            texts = tuple(self._model.texts[token] for token in ids)
            return Capture(token_ids=ids, token_texts=texts, activations=activations)

        captured = await self._run(run)
        self._tokens.prompt += len(ids)
        return captured

    def stats(self) -> EngineStats:
        """Return token counts and steps: each step has one request; there is no prefix cache and there are no slots."""
        return EngineStats(
            prompt_tokens=self._tokens.prompt,
            cached_tokens=self._tokens.cached,
            generated_tokens=self._tokens.generated,
            steps=self._steps,
            step_requests=self._steps,
            running=min(1, self._in_turn),
            waiting=max(0, self._in_turn - 1),
            batch_size=1,
        )

    async def ended(self) -> str:
        """Wait for `close`: a model in this process cannot die on its own."""
        await self._closed.wait()
        return _CLOSED

    async def close(self) -> None:
        """Finish the running step and fail the others. The model is freed with the engine object."""
        self._closed.set()
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    def _record(self, recorder: Recorder, residual_counts: bool, sentence: Sentence) -> AdmittedSentence | None:
        if recorder.is_full(sentence.language):
            return None
        tokens = self._model.encoder.sentence(sentence.text, max_tokens=self.info.max_model_len - 1)
        admission = recorder.admit(sentence.language, tokens.counted)
        if admission is None:
            return None
        activations, residuals = self._model.observe(tokens.ids)
        counted = torch.cat(activations, dim=1)[tokens.special :].float()
        shape = self.info.widths.shape
        mixture = self._model.hooks.mixture
        residual = torch.stack(residuals)[:, tokens.special :]
        recorder.add(
            admission,
            counts=(counted > 0).sum(dim=0).reshape(shape).cpu().numpy(),
            mean=(counted.nanmean(dim=0) if mixture else counted.mean(dim=0)).reshape(shape).cpu().numpy(),
            reached=(~counted.isnan()).sum(dim=0).reshape(shape).cpu().numpy() if mixture else None,
            residual=residual.sum(dim=1, dtype=torch.float64).cpu().numpy(),
            residual_counts=(residual > 0).sum(dim=1).cpu().numpy() if residual_counts else None,
        )
        return admission

    def _edits(self, steering: Steering | None) -> Edits | None:
        return None if steering is None else self._neurons.resolve(steering)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        """Run one step in the thread, as `_in_thread` does, and count it."""
        self._require_open()
        self._in_turn += 1
        try:
            return await self._in_thread(work)
        finally:
            self._in_turn -= 1
            self._steps += 1

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Run a function in the thread; raise EngineFailed if the engine is closed before."""
        self._require_open()
        try:
            with named_allocation_failures("for this request"):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed.is_set() and task is not None and not task.cancelling():  # `close` has cancelled the step
                raise EngineFailed(_CLOSED) from None
            raise

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise EngineFailed(_CLOSED)


def _scope(steering: Steering | None, *, prompt_tokens: int) -> TokenScope:
    if steering is None:
        return EVERY_TOKEN
    return TokenScope.of(steering.intervention, prompt_tokens=prompt_tokens)
