"""Sampling parameters: how the tokens of an answer are chosen. The only list of these fields, with their bounds.

The REST body, the batch command, the command line and vLLM's parameters derive their fields from this class.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Interval, MaxLen, MinLen
from pydantic import BeforeValidator, Strict
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.sampling_defaults import (
    DEFAULT_TEMPERATURE,
    DEFAULT_TOKENS,
    LEAST_TEMPERATURE,
    LEAST_TOKENS,
)
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest

MaxTokens = Annotated[int, Interval(ge=LEAST_TOKENS)]
AnswerCount = Annotated[int, Interval(ge=1, le=128)]
Temperature = Annotated[float, Interval(ge=LEAST_TEMPERATURE, le=2)]
TopP = Annotated[float, Interval(gt=0, le=1)]
SamplingSeed = Annotated[int, Interval(ge=0, lt=2**63)]
TopLogprobs = Annotated[int, Interval(ge=0, le=20)]
_DECIMAL = re.compile(r"0|-?[1-9][0-9]*")
_TOKEN_RANGE = Interval(ge=0, lt=2**31)
TokenId = Annotated[int, _TOKEN_RANGE]
"""An id of the model's vocabulary. Engines check all ids in fields whose type contains this one."""


def _decimal(value: object) -> object:
    """Reject other spellings of a number (`05`, `5.0`, `-0`), so that no two keys of an object mean one token."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        message = "must be an id in plain decimal digits, such as 5; write it so, and each id once"
        raise PydanticCustomError("not_decimal", message)
    return value


TokenIdKey = Annotated[TokenId, Strict(False), BeforeValidator(_decimal)]
"""A token id as the key of a JSON object, which is a string."""
Bias = Annotated[float, Interval(ge=-100, le=100)]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the tokens of `n` answers are chosen.

    The logits l of a step are transformed in this order: `logit_bias`, `repetition_penalty`, `frequency_penalty`,
    `presence_penalty`, `bad_words`, `min_tokens`, `allowed_token_ids`, `temperature`, `min_p`, `top_k`, `top_p`. With a
    seed, a request gets the same answers alone and in any batch, on a GPU as far as rounding allows: its matrix
    products round differently in batches of other sizes, unless vLLM runs in its batch-invariant mode.

    Raises:
        InvalidRequest: A field is out of range, or `min_tokens` is above `max_tokens`; `param` names the field.
    """

    max_tokens: MaxTokens = DEFAULT_TOKENS
    """Number of tokens of an answer, at most."""
    min_tokens: Annotated[int, Interval(ge=0)] = 0
    """Number of tokens of an answer before one that ends it can be sampled, or a stop text can end it."""
    n: AnswerCount = 1
    """Number of answers. The i-th, counted from 0, is sampled with `seed + i`."""
    temperature: Temperature = DEFAULT_TEMPERATURE
    """Divisor of the logits; 0 is greedy, and makes all answers the same."""
    top_p: TopP = 1.0
    """Keep the likeliest tokens whose probabilities together reach this sum."""
    top_k: Annotated[int, Interval(ge=0)] = 0
    """Keep this many of the likeliest tokens; 0 keeps all."""
    min_p: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Keep tokens of at least this probability, relative to the likeliest."""
    frequency_penalty: Annotated[float, Interval(ge=-2, le=2)] = 0.0
    """Subtracted from a token's logit once for each time the token occurs in the answer."""
    presence_penalty: Annotated[float, Interval(ge=-2, le=2)] = 0.0
    """Subtracted from a token's logit if the token occurs in the answer."""
    repetition_penalty: Annotated[float, Interval(gt=0, le=100)] = 1.0
    """Divides a token's logit l > 0 and multiplies l <= 0, if the token occurs in the prompt or the answer."""
    seed: SamplingSeed | None = None
    """Seed of the random numbers; None takes a new one."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    stop_token_ids: Annotated[tuple[TokenId, ...], Strict(False), MaxLen(64)] = ()
    """Tokens that end an answer as the end-of-sequence token does; their text is not part of it."""
    include_stop_str_in_output: bool = False
    """Whether the answer's text includes the stop text, or the text of the token, that ends it."""
    bad_words: Annotated[tuple[Annotated[str, MinLen(1), MaxLen(1000)], ...], Strict(False), MaxLen(64)] = ()
    """Texts that an answer does not contain: the last token of a text is not sampled after its other tokens."""
    logit_bias: Annotated[dict[TokenIdKey, Bias], MaxLen(1024)] | None = None
    """Added to the logits of tokens, by their ids."""
    allowed_token_ids: Annotated[tuple[TokenId, ...], Strict(False), MinLen(1), MaxLen(1024)] | None = None
    """The only tokens that an answer can have; None allows all."""
    structured_outputs: StructuredOutputs | None = None
    """Constraint on the answer's text; None for free text."""
    ignore_eos: bool = False
    """Continue after the end-of-sequence token."""
    skip_special_tokens: bool = True
    """Whether the answer's text leaves out special tokens."""
    spaces_between_special_tokens: bool = True
    """Whether the text has the spaces that some tokenizers put between special tokens, if it has special tokens."""
    top_logprobs: TopLogprobs = 0
    """Number of likeliest alternatives that are reported for each token."""

    def __post_init__(self) -> None:
        """Check the bounds, so that no engine has to."""
        for name, bounds in SAMPLING_BOUNDS.items():
            for path, value in _values(name, getattr(self, name)):
                if not all(_HOLDS[kind](value, bound) for kind, bound in bounds.items()):
                    allowed = " and ".join(f"{_WORDS[kind]} {bound}" for kind, bound in bounds.items())
                    raise InvalidRequest(f"{path} must be {allowed}; got {value}", param=path)
        if self.min_tokens > self.max_tokens:
            remedy = "lower it, or raise max_tokens"
            message = (
                f"min_tokens must be at most max_tokens, which is {self.max_tokens}; got {self.min_tokens}; {remedy}"
            )
            raise InvalidRequest(message, param="min_tokens")
        for path, word in _values("bad_words", self.bad_words):
            if not word.strip():
                raise InvalidRequest(f"{path} is only white space; give a text, or omit it", param=path)


SAMPLING_TYPES: Mapping[str, Any] = get_type_hints(SamplingParams, include_extras=True)
"""The type of each field, annotated with its bounds, as Pydantic's `create_model` takes it."""

_HOLDS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _values(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Return a field's value with its path, or each item with its path if the value is a tuple or a mapping."""
    if isinstance(value, Mapping):
        return [(f"{name}.{key}", item) for key, item in value.items()]
    if isinstance(value, tuple):
        return [(f"{name}.{index}", item) for index, item in enumerate(value)]
    return [] if value is None else [(name, value)]


def _interval(hint: Any) -> Interval | None:
    """Return the bounds in a type such as `Annotated[int, Interval(ge=0)] | None`, or those of a collection's items."""
    parts = (*getattr(hint, "__metadata__", ()), *reversed(get_args(hint)))
    intervals = (part if isinstance(part, Interval) else _interval(part) for part in parts)
    return next((interval for interval in intervals if interval is not None), None)


def _bounds(hint: Any) -> Mapping[str, float]:
    bounds = {kind: getattr(_interval(hint), kind, None) for kind in _HOLDS}
    return {kind: bound for kind, bound in bounds.items() if bound is not None}


SAMPLING_BOUNDS: Mapping[str, Mapping[str, float]] = {name: _bounds(hint) for name, hint in SAMPLING_TYPES.items()}
"""The bounds of each field, or of its items: {"temperature": {"ge": 0, "le": 2}, ...}."""


def _names_tokens(hint: Any) -> bool:
    return hint == _TOKEN_RANGE or any(map(_names_tokens, get_args(hint)))


_TOKEN_FIELDS = tuple(name for name, hint in SAMPLING_TYPES.items() if _names_tokens(hint))


def token_ids(sampling: SamplingParams) -> Iterable[tuple[str, int]]:
    """Return the token ids that sampling parameters name, each with its path, such as `stop_token_ids.1`."""
    for name in _TOKEN_FIELDS:
        value = getattr(sampling, name)
        for position, token in enumerate(value or ()):
            yield f"{name}.{token if isinstance(value, Mapping) else position}", token
