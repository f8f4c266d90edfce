"""Interface between a steerable model and its callers: the `Engine` protocol, its requests and its results.

Three engines implement it: `vllm` (for production), `transformers` (plain hooks, the reference implementation for
tests) and `fake` (deterministic answers without a model). All methods may be called concurrently from one event loop;
an engine batches the requests in flight. A request that fails raises from its own call and does not affect others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.choices import Mode
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import DEFAULT_OPTIONS, Prompt, PromptOptions, ScoreText, Split, TokenIds, Tool
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.tool_calls import ToolParsing
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Sentence
from engine.capture.selection import NeuronSelection
from engine.identify.record_request import RecordRequest
from engine.identify.stats import ActivationStats
from engine.neurons.neuron_set import NeuronSet


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Identity of the model and versions of the software: what a result depends on, together with the request."""

    kind: str
    model: str
    fingerprint: str  # of the model's files, see ampsweep.folders.model
    model_class: str
    layers: int
    width: Width  # neurons a layer
    hidden_size: int  # of the residual stream
    dtype: str
    max_model_len: int
    versions: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)  # fingerprints of the loaded LoRA adapters, by name

    @property
    def widths(self) -> LayerWidths:
        """The neurons of each layer."""
        return LayerWidths(self.layers, self.width)


@dataclass(frozen=True, kw_only=True)
class Steering:
    """An intervention, and the id of the neuron set that it applies to, which `add_neurons` must have loaded.

    In mode `paper` a statistic is taken over a whole forward pass, see `Edits.whole_pass`. Only the `transformers`
    engine supports this; `vllm` raises InvalidRequest. Without a statistic the modes are the same.
    """

    intervention: Intervention
    neurons: str
    mode: Mode = "corrected"


def reject_adapter(kind: str, adapter: str | None) -> None:
    """Raise InvalidRequest if a request to an engine without LoRA adapters names one (param "adapter")."""
    if adapter is not None:
        message = (
            f"LoRA adapters require the vllm engine, not {kind}; leave the adapter out, or merge it into the model"
        )
        raise InvalidRequest(message, param="adapter")


class Priority(IntEnum):
    """Scheduling priority of a request: lower values run first, equal values in order of arrival."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """A prompt to continue, unsteered if `steering` is None; `strip` removes trailing white space from the prompt.

    `adapter` is the name of a LoRA adapter that the engine was opened with, None for the model alone. With
    `prompt_logprobs` the first chunk of each answer has the prompt's tokens, each with so many likeliest alternatives;
    with `return_token_ids` it has their ids. Without `stream` an engine may return each answer as one chunk when it has
    ended, which costs it less for each token. `tools` are those that the assistant of a chat may call. With
    `parse_tools`, an engine that has a parser for the calls of the model sets `parsed` of each chunk. `options` say how
    the prompt becomes tokens. `priority` is the scheduling priority, of which `Priority` names two values: lower ones
    run first.
    """

    prompt: Prompt | TokenIds
    strip: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prompt_logprobs: int | None = None
    return_token_ids: bool = False
    stream: bool = True
    tools: tuple[Tool, ...] = ()
    parse_tools: ToolParsing | None = None
    options: PromptOptions = field(default_factory=PromptOptions)
    steering: Steering | None = None
    adapter: str | None = None
    priority: int = Priority.INTERACTIVE


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """A continuation to score: the log-probabilities of its tokens after `context`.

    White space at the end of a text moves from the context to the continuation first. An empty context is the model's
    BOS or EOS token. After a chat, the continuation is the assistant's answer. If no token spans the join, the scored
    tokens are those of encode(context + continuation) after the first len(encode(context)). If one does, `split`
    decides:

    - `aligned`: the whole continuation is scored. The context is backed off to the last token border that
      encode(context) and encode(context + continuation) share, and everything after it is scored, including the end of
      the context (Xu et al. 2026, arXiv 2601.23223). `options` are the other texts of the same item: if a token spans
      the join in one of them, all are scored from the last border that all contexts and whole texts share.
    - `lm_eval`: the tokens after the first len(encode(context)) are scored, as in lm-evaluation-harness. White space at
      the end of a chat moves as well.

    `adapter` is the name of a LoRA adapter, as in `GenerateRequest`, and `chat_template_kwargs` are variables of the
    chat template.
    """

    context: Prompt
    continuation: str
    split: Split = "aligned"
    options: tuple[ScoreText, ...] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    steering: Steering | None = None
    adapter: str | None = None
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, kw_only=True)
class Score:
    """The log-probability (natural logarithm) of each scored token.

    `spanned_join` tells whether a token of the whole text spans the join of context and continuation.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    context_tokens: int
    spanned_join: bool = False


@dataclass(frozen=True, kw_only=True)
class CaptureRequest:
    """Neurons whose activations are returned at every token of a prompt.

    Attributes:
        prompt: The text, the chat or the tokens.
        neurons: The neurons.
        steering: The intervention, None for none.
        prompt_tokens: Tokens from this position on count as generated, for the scope of the intervention; None for none
            of them.
        adapter: The name of a LoRA adapter, as in `GenerateRequest`.
        priority: The scheduling priority.
    """

    prompt: Prompt | TokenIds
    neurons: NeuronSelection
    steering: Steering | None = None
    prompt_tokens: int | None = None
    adapter: str | None = None
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """The activations of T tokens.

    An activation is the value that recording counts and sums: that of the activation function, before it is multiplied
    by up. Under an intervention it is the value before the edit in its own layer. It includes the effect of the edits
    in the layers below.

    Attributes:
        token_ids: The tokens, special ones included.
        token_texts: The text of each token.
        activations: For each layer of `CaptureRequest.neurons`, float32 [T, its neurons]; NaN where a token does not
            reach the neuron's expert.
    """

    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    activations: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """Counters and current load of an engine. Counters never decrease, and start at 0 with the engine.

    `step_requests` / `steps` is the mean size of a batch. An engine without a KV cache or without slots has None or 0
    in the fields that describe them.

    Attributes:
        prompt_tokens: Prompt tokens of the requests of which an engine has returned something.
        cached_tokens: Those of `prompt_tokens` that were read from the prefix cache.
        generated_tokens: Tokens of all answers.
        steps: Forward passes.
        step_requests: Requests that took part in a step, summed over all steps.
        running: Requests in the current batch.
        waiting: Requests that wait for a place in the batch.
        batch_size: Maximum number of requests in a batch.
        kv_use: Share of the KV cache's blocks in use, from 0 to 1.
        slots: Slots of the steering table.
        slots_used: Slots that requests in flight hold.
        slots_waiting: Requests that wait for a slot.
    """

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    steps: int
    step_requests: int
    running: int
    waiting: int
    batch_size: int
    kv_use: float | None = None
    slots: int = 0
    slots_used: int = 0
    slots_waiting: int = 0


@dataclass(kw_only=True)
class TokenCounts:
    """The token counters of `EngineStats` while an engine counts."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0


class PromptEncoder(Protocol):
    """Converts prompts to tokens and back, in the way in which the engine reads them."""

    def tokens(
        self, prompt: Prompt | TokenIds, *, tools: Sequence[Tool] = (), options: PromptOptions = DEFAULT_OPTIONS
    ) -> tuple[int, ...]:
        """Return the token ids of a prompt of any length, which is not truncated.

        Args:
            prompt: A text or a chat; token ids are used unchanged.
            tools: The tools that the assistant of a chat may call.
            options: How the prompt becomes tokens.

        Raises:
            InvalidRequest: The chat cannot be formatted.
        """
        ...

    def token_strs(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token as the vocabulary writes it."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included; raise InvalidRequest for an id that does not exist."""
        ...


class Engine(Protocol):
    """A loaded model that generates text, scores continuations, and records and captures activations.

    No method may be called after `close`.

    Example:
        >>> async for chunk in engine.generate(GenerateRequest(prompt="Bonjour")):  # doctest: +SKIP
        ...     print(chunk.text, end="")
    """

    @property
    def info(self) -> EngineInfo:
        """Identity of the model and versions of the software."""
        ...

    @property
    def encoder(self) -> PromptEncoder:
        """Converts prompts to tokens and back."""
        ...

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set so that requests can name its id; loading the same id again has no effect.

        Raises:
            InvalidRequest: The set was made for a model with another shape.
        """
        ...

    def drop_neurons(self, neuron_set_id: str) -> None:
        """Unload a neuron set that no request in flight uses; do nothing if it is not loaded."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream the answers to a prompt; chunks of different answers may interleave.

        Closing the iterator aborts all answers.

        Raises:
            InvalidRequest: The prompt is too long, or it is a chat and the model has no chat template.
            UnknownName: The neuron set or the language is unknown.
        """
        ...

    async def score(self, request: ScoreRequest) -> Score:
        """Return the log-probabilities of a continuation.

        Raises:
            InvalidRequest: The text is too long, the continuation adds no token, or the chat cannot be formatted.
            UnknownName: The neuron set or the language is unknown.
        """
        ...

    async def record(self, sentences: Iterable[Sentence], request: RecordRequest) -> ActivationStats:
        """Record activations and residuals over a corpus, whose sentences come in order, all languages in one pass.

        A language takes its sentences until their tokens together would exceed `max_tokens`. The special tokens in
        front of a sentence (BOS) are fed to the model but not counted. Memory use does not grow with the corpus.

        Raises:
            InvalidRequest: No sentence fits `max_tokens`, or the engine does not count residuals (param
                "residual_counts").
        """
        ...

    async def capture(self, request: CaptureRequest) -> Capture:
        """Return the activations of some neurons at each token of a prompt; none is read from a prefix cache.

        They take 4 bytes a neuron and token. Callers limit them, see `engine.capture.run`.

        Raises:
            InvalidRequest: The prompt is too long, or this engine cannot capture (param "engine").
            UnknownName: The neuron set or the language of the intervention is unknown.
        """
        ...

    def stats(self) -> EngineStats:
        """Return counters and current load without blocking, even during a step."""
        ...

    async def ended(self) -> str:
        """Wait until the engine is closed or has died, and return the reason."""
        ...

    async def close(self) -> None:
        """Stop everything in flight and free the model."""
        ...
