"""Interface between a steerable model and its callers: the `Engine` protocol, its requests and its results.

Three engines implement it: `vllm` (for production), `transformers` (plain hooks, the reference implementation for
tests) and `fake` (deterministic answers without a model). All methods may be called concurrently from one event loop;
an engine batches the requests in flight. A request that fails raises from its own call and does not affect others.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.prompt import TokenIds
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Sentence
from engine.identify.checkpoint import Checkpoint
from engine.identify.stats import ActivationStats
from engine.neurons.neuron_set import NeuronSet
from engine.stats import EngineStats

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Identity of the model and versions of the software: what a result depends on besides the request."""

    kind: str
    model: str
    fingerprint: str  # of the model's files, see engine.model_files
    model_class: str
    layers: int
    width: int  # neurons a layer
    dtype: str
    max_model_len: int
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Steering:
    """An intervention, and the neuron set (its id, loaded before with `add_neurons`) that gives it its neurons.

    With `mode` paper a statistic is that of a whole forward pass, see `Edits.whole_pass`. Only the `transformers`
    engine takes it, `vllm` raises InvalidRequest; without a statistic the modes are the same.
    """

    intervention: Intervention
    neurons: str
    mode: Mode = "corrected"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. Raises InvalidRequest naming the field that is out of range.

    `n` answers are drawn, the i-th with `seed + i`; temperature 0 is greedy, and makes them all the same. With a seed
    a request is answered alike alone and in any batch. `top_logprobs` likeliest alternatives are reported a token.

    The logits l of a step become those that are drawn from, in this order: `repetition_penalty` r divides l > 0 by r
    and multiplies others by it, for the tokens of prompt and answer; `frequency_penalty` is subtracted once for each
    time a token stands in the answer, `presence_penalty` once if it does; all are divided by the temperature; `min_p`
    keeps tokens at least so likely, relative to the likeliest; `top_k` the k likeliest (0: all); `top_p` the likeliest
    that together reach it.
    """

    max_tokens: int = 64
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        """Refuse what no engine can do, so that none has to."""
        for param, right, wanted in (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("n", 1 <= self.n <= 128, "from 1 to 128"),
            ("temperature", 0 <= self.temperature <= 2, "from 0 to 2"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "a finite number above 0"),
            ("seed", self.seed is None or 0 <= self.seed < 2**63, "from 0 to 2^63 - 1"),
            ("top_logprobs", 0 <= self.top_logprobs <= 20, "from 0 to 20"),
        ):
            if not right:
                raise InvalidRequest(f"{param} must be {wanted}; got {getattr(self, param)}", param=param)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a chat; which roles there are (system, user, assistant), the model's chat template says."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""Text as it is, or a chat, which the model's chat template writes out, the head of the answer at its end."""


class Priority(IntEnum):
    """Scheduling priority of a request: lower values run first, equal values in order of arrival."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """A prompt to continue, unsteered if `steering` is None; `strip` removes trailing white space from the prompt."""

    prompt: Prompt | TokenIds
    strip: bool = False
    sampling: Sampling = Sampling()
    steering: Steering | None = None
    priority: Priority = Priority.INTERACTIVE


Split = Literal["aligned", "lm_eval"]
"""How the tokens of a text are divided into context and scored ones, see `ScoreRequest`."""
ScoreText = tuple[Prompt, str]
"""A context and the continuation to score."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """A continuation whose tokens' log-probabilities after `context` are asked for.

    White space at the end of a context of text moves to the continuation first; an empty context is the model's BOS or
    EOS token. After a chat the continuation is the assistant's answer. Where no token spans the join, what is scored
    are the tokens of encode(context + continuation) after the first len(encode(context)). Where one does, `split` says
    what is scored:

    - `aligned`: all of the continuation. The context is backed off to the last token border that encode(context) and
      encode(context + continuation) share, and all that follows is scored, an end of the context included (Xu et al.
      2026, arXiv 2601.23223). `options` are the texts of the same item: where the join of one of them is spanned, all
      are scored from the last border that all their contexts and whole texts share.
    - `lm_eval`: the tokens after the first len(encode(context)) all the same, as lm-evaluation-harness does. White
      space at the end of a chat moves, too.
    """

    context: Prompt
    continuation: str
    split: Split = "aligned"
    options: tuple[ScoreText, ...] = ()
    steering: Steering | None = None
    priority: Priority = Priority.INTERACTIVE


class Alternative(NamedTuple):
    """A token that could have been drawn, its log-probability (natural log) and its text."""

    token_id: int
    logprob: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of one answer: new text, its tokens and their log-probabilities (natural log) under the steered model.

    `index` says which of the request's `n` answers it belongs to; the last chunk of each has a `finish_reason`.
    `prompt_tokens` is the same in all. Log-probabilities are those before penalties, temperature and the like.
    `token_texts` has each token's own text, whatever it is (U+FFFD for a part of a character, nothing for an id that
    the tokenizer does not know), and `text_offsets` where it begins in the answer's text, in characters. `top_logprobs`
    are each token's likeliest alternatives, the likeliest first, as many as were asked for; the drawn token may be
    among them.

    In `text`, a token's text may come with a later chunk, or not at all: that of the end-of-sequence token, of a stop
    string and what follows it, and of bytes that never became a character. Those tokens are listed all the same.
    """

    index: int = 0
    text: str
    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    text_offsets: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[Alternative, ...], ...]
    prompt_tokens: int
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The scored tokens and their log-probabilities (natural log), one each, summed nowhere.

    `spanned_join` says that a token of the whole text lies on both sides of the join of context and continuation.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    context_tokens: int
    spanned_join: bool = False


class Engine(Protocol):
    """A loaded model that generates text, scores continuations and records activations.

    No method may be called after `close`.

    Example:
        >>> async for chunk in engine.generate(GenerateRequest(prompt="Bonjour")):  # doctest: +SKIP
        ...     print(chunk.text, end="")
    """

    @property
    def info(self) -> EngineInfo:
        """Identity of the model and versions of the software."""
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
        """Return the log-probabilities of a continuation; raises as `generate` does."""
        ...

    async def record(
        self, sentences: Iterable[Sentence], *, max_tokens: int, checkpoint: Checkpoint | None = None
    ) -> ActivationStats:
        """Count activations over a corpus, all languages in one pass.

        A language takes its sentences in order while their tokens together stay within `max_tokens`. The special
        tokens that the tokenizer puts in front (BOS) are fed but not counted. Memory does not grow with the corpus.
        A recording of the same corpus that was stopped goes on from its `checkpoint`, with the same outcome.
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
