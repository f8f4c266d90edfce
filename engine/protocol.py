"""The seam between a model that can be steered and everything that uses one.

Three engines stand behind it: `vllm` (the product), `transformers` (plain hooks, the oracle of the tests) and `fake`
(deterministic answers without a model). All methods may be called concurrently from one event loop; an engine batches
what is in flight. A request that fails raises from its own call and leaves the others alone.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Sentence
from engine.identify.stats import ActivationStats
from engine.intervention import Intervention
from engine.neuron_set import NeuronSet

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What a result depends on besides the request: the model's identity and the software's."""

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
    """An intervention, and the neuron set (its id, loaded before with `add_neurons`) that gives it its neurons."""

    intervention: Intervention
    neurons: str


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; temperature 0 is greedy. Raises InvalidRequest naming the field that is out of range."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        """Refuse what no engine can do, so that none has to."""
        for param, right, wanted in (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "a finite number from 0 up"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not right:
                raise InvalidRequest(f"{param} must be {wanted}; got {getattr(self, param)}", param=param)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """A prompt to continue, steered or (steering None) not."""

    prompt: str
    sampling: Sampling = Sampling()
    steering: Steering | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """A continuation whose tokens' log-probabilities after `context` are asked for.

    Its tokens are those of encode(context + continuation) after the first len(encode(context)); spaces at the end of
    the context move to the continuation first. An empty context is the model's BOS or EOS token.
    """

    context: str
    continuation: str
    steering: Steering | None = None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a stream: new text, its tokens and their log-probabilities (natural log) under the steered model.

    The last chunk of a stream has a `finish_reason`; `prompt_tokens` is the same in all of them. A token's text may
    come with a later chunk, or not at all: that of the end-of-sequence token, of a stop string and what follows it, and
    of bytes that never became a character. Those tokens are listed all the same.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The continuation's tokens and their log-probabilities (natural log), one each, summed nowhere."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    context_tokens: int


class Engine(Protocol):
    """A loaded model that generates, scores and records. `close` frees it; nothing may be called after."""

    @property
    def info(self) -> EngineInfo:
        """What the answers depend on besides the requests."""
        ...

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Make a neuron set usable by its id; a second call with the same id changes nothing.

        Raises InvalidRequest where the set was made for a model of another shape.
        """
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Stream the continuation of a prompt. Closing the iterator early aborts the request.

        Raises InvalidRequest for a prompt that is too long, UnknownName for an unknown neuron set or language.
        """
        ...

    async def score(self, request: ScoreRequest) -> Score:
        """Return the log-probabilities of a continuation; raises as `generate` does."""
        ...

    async def record(self, sentences: Iterable[Sentence], *, max_tokens: int) -> ActivationStats:
        """Count activations over a corpus, all languages in one pass.

        A language takes its sentences in order while their tokens together stay within `max_tokens`. The special
        tokens that the tokenizer puts in front (BOS) are fed but not counted. Memory does not grow with the corpus.
        """
        ...

    async def close(self) -> None:
        """Stop everything in flight and free the model."""
        ...
