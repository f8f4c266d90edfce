"""An engine without a model, for tests of the code that uses engines. Its answers are hashes of the requests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.generation.chunk import Chunk, PromptPart, TokenLogprob
from ampsweep.domain.generation.prompt import PromptOptions, TokenIds
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.languages.identifier import LanguageIdentifier
from ampsweep.errors import EngineFailed, InvalidRequest, PromptTooLong, UnknownName
from ampsweep.folders.corpus import Sentence
from ampsweep.hashing import canonical_json
from engine.base import (
    Capture,
    CaptureRequest,
    EngineInfo,
    EngineStats,
    GenerateRequest,
    Score,
    ScoreRequest,
    TokenCounts,
)
from engine.detokenizer import first_stop
from engine.fake_activations import fake_activations
from engine.fake_encoder import FakeEncoder, prompt_text
from engine.identify.batches import in_batches, run_in
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import Recorder
from engine.identify.stats import ActivationStats
from engine.neurons.loaded import LoadedNeurons
from engine.neurons.neuron_set import NeuronSet
from engine.sampling import check_token_ids, reject_structured_outputs
from engine.steering.answer_switch import AnswerSwitch, reject_running_text, switches_of
from engine.steering.drift import SwitchHistory

FAKE_INFO = EngineInfo(
    kind="fake",
    model="fake",
    fingerprint="0" * 64,
    model_class="FakeForCausalLM",
    layers=4,
    width=32,
    hidden_size=16,
    dtype="float32",
    max_model_len=2048,
    versions={"fake": "1"},
)
_LANGUAGE_SHARE = 0.25  # share of neurons that are active mainly in one language
_WORDS = ("amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "haven", "isle", "jade", "knoll", "lark")


async def _no_sleep(_seconds: float) -> None:
    """Return at once."""


class FakeEngine:
    """An `Engine` whose answers depend only on the text and the steering.

    A token is a byte of the prompt or of a scored text, and a word of an answer.
    """

    def __init__(
        self,
        info: EngineInfo = FAKE_INFO,
        *,
        sleep: Callable[[float], Awaitable[None]] = _no_sleep,
        seconds_per_step: float = 0.0,
        fail_on: str | None = None,
        open_identifier: Callable[[], LanguageIdentifier] | None = None,
    ) -> None:
        """Pretend to be the model described by `info`.

        Args:
            info: Name, shape and context length of the model, and its LoRA adapters.
            sleep: Called with `seconds_per_step` for each generated token and each score.
            seconds_per_step: Duration of a step, in seconds.
            fail_on: A text that contains this raises EngineFailed; None for no text.
            open_identifier: Returns the language identifier for steering that depends on the text of an answer.
        """
        self._open_identifier = open_identifier
        self._info = info
        self._neurons = LoadedNeurons(info)
        self._sleep = sleep
        self._seconds = seconds_per_step
        self._fail_on = fail_on
        self._tokens = TokenCounts()
        self._running = 0
        self._steps = 0
        self._step_requests = 0
        self._closed = asyncio.Event()
        self.encoder = FakeEncoder()

    @property
    def info(self) -> EngineInfo:
        """The model that the engine pretends to be."""
        return self._info

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set; see `Engine.add_neurons`."""
        self._neurons.add(neurons)

    def drop_neurons(self, neuron_set_id: str) -> None:
        """Unload a neuron set; see `Engine.drop_neurons`."""
        self._neurons.drop(neuron_set_id)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream `max_tokens` words for each answer, fewer if something stops it; one answer after the other."""
        new_switch = await switches_of(request.steering, self._open_identifier, markers=None, prompt=())
        for index in range(request.sampling.n):
            switch = None if new_switch is None else new_switch()
            async for chunk in self._words(request, index, switch):
                yield chunk

    async def _words(self, request: GenerateRequest, index: int, switch: AnswerSwitch | None) -> AsyncGenerator[Chunk]:
        sampling, prompt = request.sampling, prompt_text(request.prompt, request.tools, request.options)
        if request.strip:
            prompt = prompt.rstrip()
        self._check(prompt, len(prompt.encode()), "prompt")
        check_token_ids(sampling, vocabulary=len(_WORDS))
        reject_structured_outputs(self._info.kind, sampling)
        answer = None if sampling.temperature == 0 else index
        unsteered = replace(request, steering=None)
        keys = [["generate", prompt, self._key(each), sampling.seed, answer] for each in (unsteered, request)]
        text, history = "", SwitchHistory()
        self._tokens.prompt += len(prompt.encode())
        for step in range(sampling.max_tokens):
            await self._step()
            self._tokens.generated += 1
            steered = switch is None or (step > 0 and bool(history.steered(step - 1, 1)[0]))
            number = _hash([*keys[steered], step])
            rank = _sampled_rank(sampling, number, text, step)
            token = (number + rank) % len(_WORDS)
            before, text = text, f"{text} {_WORDS[token]}"
            end = _end(sampling, text, len(before), token, step)
            last = step + 1 == sampling.max_tokens
            new_text = text[len(before) : end]
            if switch is not None and switch.read(new_text, (token,)):
                history.switch(step + 1)
            alternatives = range(min(sampling.top_logprobs, len(_WORDS)))
            yield Chunk(
                index=index,
                text=new_text,
                token_ids=(token,),
                token_texts=(f" {_WORDS[token]}",),
                text_offsets=(len(before),),
                logprobs=(_logprob(number) - rank,),
                top_logprobs=(tuple(_alternative(number, alternative) for alternative in alternatives),),
                prompt_tokens=max(1, len(prompt.encode())),
                finish_reason="stop" if end is not None else "length" if last else None,
                neuron_set=None if request.steering is None else request.steering.neurons,
                prompt=self._prompt_part(request if switch is None else unsteered, prompt) if step == 0 else None,
                prompt_token_ids=_prompt_ids(request, prompt) if step == 0 else None,
                steered_spans=None if switch is None else history.spans(step, step + 1),
            )
            if end is not None:
                return

    def _prompt_part(self, request: GenerateRequest, prompt: str) -> PromptPart | None:
        """Return a log-probability for each character, or token id, of the prompt but the first, if it is asked for."""
        if request.prompt_logprobs is None:
            return None
        key = ["prompt", prompt, self._key(request)]
        parts = [(ord(character), character) for character in prompt]
        if isinstance(request.prompt, TokenIds):
            ids = request.prompt.ids
            parts = [(token_id, f" {token_id}" if index else f"{token_id}") for index, token_id in enumerate(ids)]
        tokens = [
            TokenLogprob(token_id, _logprob(_hash([*key, position])), text)
            for position, (token_id, text) in enumerate(parts)
        ]
        return PromptPart(
            text=prompt,
            token_ids=tuple(token.token_id for token in tokens),
            token_texts=tuple(token.text for token in tokens),
            text_offsets=tuple(accumulate((len(text) for _, text in parts), initial=0))[:-1],
            logprobs=(None, *(token.logprob for token in tokens[1:])),
            ranks=(None, *(1 for _ in tokens[1:])),
            top_logprobs=((), *((token,) if request.prompt_logprobs else () for token in tokens[1:])),
        )

    async def score(self, request: ScoreRequest) -> Score:
        """Return a log-probability for each byte of the continuation."""
        reject_running_text(request.steering)
        options = PromptOptions(chat_template_kwargs=request.chat_template_kwargs)
        context, tokens = prompt_text(request.context, (), options), tuple(request.continuation.encode())
        self._check(context + request.continuation, len(context.encode()) + len(tokens), "context")
        if not tokens:
            raise InvalidRequest("the continuation adds no token to the context", param="continuation")
        await self._step()
        self._tokens.prompt += len(context.encode()) + len(tokens)
        key = ["score", context, request.continuation, self._key(request)]
        return Score(
            token_ids=tokens,
            logprobs=tuple(_logprob(_hash([*key, position])) for position in range(len(tokens))),
            context_tokens=max(1, len(context.encode())),
        )

    async def record(self, sentences: Iterable[Sentence], request: RecordRequest) -> ActivationStats:
        """Return statistics in which each language has neurons that are active more often in it than in others."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")
        run = run_in(thread)
        make = partial(Recorder, self._info.widths, request, hidden_size=self._info.hidden_size)
        try:
            recorder = await run(make)
            async for _ in in_batches(run, sentences, self._recording_in(recorder, request.residual_counts)):
                pass
            return await run(recorder.finish)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _recording_in(self, recorder: Recorder, residual_counts: bool) -> Callable[[Sentence], None]:

        @cache
        def active_share(language: str) -> NDArray[np.float64]:
            """Return the share of tokens that activate each neuron in a language: 0.9, or less than 0.1."""
            random = np.random.default_rng(_hash(["language", language]))
            shape = self._info.widths.shape
            return np.where(random.random(shape) < _LANGUAGE_SHARE, 0.9, 0.1 * random.random(shape))

        @cache
        def residual_of(language: str) -> NDArray[np.float64]:
            """Return the residual of each token of a language, [L, H]."""
            direction = np.random.default_rng(_hash(["residual", language]))
            return direction.normal(size=(self._info.layers, self._info.hidden_size))

        def record(sentence: Sentence) -> None:
            if recorder.is_full(sentence.language):
                return
            self._check(sentence.text, 0, "corpus")
            admission = recorder.admit(sentence.language, len(sentence.text.encode()))
            if admission is None:
                return
            share = active_share(sentence.language)
            random = np.random.default_rng(_hash(["sentence", sentence.language, sentence.text]))
            noise, residual = random.random(share.shape), residual_of(sentence.language)
            counts = (admission.tokens * share + noise).astype(np.int64)
            recorder.add(
                admission,
                counts=counts,
                mean=(share + 0.4 * noise - 0.7).astype(np.float32),
                residual=admission.tokens * residual,
                residual_counts=(admission.tokens * (residual > 0)).astype(np.int64) if residual_counts else None,
            )

        return record

    async def capture(self, request: CaptureRequest) -> Capture:
        """Return activations that are hashes of the tokens, the neuron and the steering."""
        reject_running_text(request.steering)
        ids = self.encoder.tokens(request.prompt, options=PromptOptions(add_special_tokens=True))
        key = self._key(request)
        self._check(self.encoder.text(ids), len(ids), "prompt")
        await self._step()
        self._tokens.prompt += len(ids)
        activations = fake_activations(ids, request.neurons, key=key)
        texts = tuple(self.encoder.text((token,)) for token in ids)
        return Capture(token_ids=ids, token_texts=texts, activations=activations)

    def stats(self) -> EngineStats:
        """Return token counts and steps: a step generates one token of one answer, and there is no cache."""
        return EngineStats(
            prompt_tokens=self._tokens.prompt,
            cached_tokens=self._tokens.cached,
            generated_tokens=self._tokens.generated,
            steps=self._steps,
            step_requests=self._step_requests,
            running=self._running,
            waiting=0,
            batch_size=256,
            kv_use=0.0,
            slots=256,
        )

    async def _step(self) -> None:
        self._running += 1
        self._step_requests += self._running
        self._steps += 1
        try:
            await self._sleep(self._seconds)
        finally:
            self._running -= 1

    async def ended(self) -> str:
        """Wait for `close`; see `Engine.ended`."""
        await self._closed.wait()
        return "the engine was closed"

    async def close(self) -> None:
        """Make `ended` return."""
        self._closed.set()

    def _key(self, request: GenerateRequest | ScoreRequest | CaptureRequest) -> list[str]:
        """Return a value that differs between steerings and adapters; raise the errors of `LoadedNeurons.resolve`."""
        adapter, steering = request.adapter, request.steering
        if adapter is not None and adapter not in self._info.adapters:
            raise UnknownName("adapter", adapter, self._info.adapters, param="adapter")
        adapted = [] if adapter is None else ["adapter", adapter]
        if steering is None:
            return adapted
        edits = self._neurons.resolve(steering)
        key = [*adapted, steering.neurons, steering.intervention.hash]
        return [*key, steering.mode] if edits.whole_pass else key

    def _check(self, text: str, tokens: int, param: str) -> None:
        if tokens > self._info.max_model_len:
            raise PromptTooLong(
                f"the {param} has {tokens} tokens, but this engine accepts at most {self._info.max_model_len}; "
                "shorten it",
                param=param,
            )
        if self._fail_on is not None and self._fail_on in text:
            raise EngineFailed("the fake engine fails on this text, as configured with fail_on")


def _prompt_ids(request: GenerateRequest, prompt: str) -> tuple[int, ...] | None:
    """Return the tokens of the prompt, bytes unless they are given, if the request asks for them."""
    if not request.return_token_ids:
        return None
    return request.prompt.ids if isinstance(request.prompt, TokenIds) else tuple(prompt.encode())


def _sampled_rank(sampling: SamplingParams, number: int, text: str, step: int) -> int:
    """Return which of the words after `text` is sampled, if their logits are 0, -1, -2, ... by their rank."""
    bias, banned = sampling.logit_bias or {}, tuple(word.strip() for word in sampling.bad_words)
    withheld = sampling.stop_token_ids if step < sampling.min_tokens else ()
    words = {rank: (number + rank) % len(_WORDS) for rank in range(len(_WORDS))}
    allowed = [
        rank
        for rank, word in words.items()
        if word not in withheld and not (banned and f"{text} {_WORDS[word]}".endswith(banned))
    ]
    return max(allowed, key=lambda rank: bias.get(words[rank], 0.0) - rank, default=0)


def _end(sampling: SamplingParams, text: str, before: int, token: int, step: int) -> int | None:
    """Return where an answer's text ends if `token` ends it; None if the answer goes on.

    A stop string ends within the last word, which begins after `before` characters: earlier ones did not count.
    """
    include = sampling.include_stop_str_in_output
    if token in sampling.stop_token_ids:
        return len(text) if include else before
    match = first_stop(text, sampling.stop, after=before) if step >= sampling.min_tokens else None
    if match is None:
        return None
    return match.end if include else match.start


def _alternative(number: int, rank: int) -> TokenLogprob:
    word = (number + rank) % len(_WORDS)
    return TokenLogprob(word, _logprob(number) - rank, f" {_WORDS[word]}")


def _hash(key: object) -> int:
    """Return a number of 64 bits that depends only on `key`, any value that canonical JSON can hold."""
    return int.from_bytes(hashlib.sha256(canonical_json(key).encode()).digest()[:8], "big")


def _logprob(number: int) -> float:
    """Return a log-probability from -8 to just under 0."""
    return -8.0 * ((number >> 11) + 1) / (1 << 53)
