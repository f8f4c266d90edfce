"""Sampling parameters: how the tokens of an answer are chosen. The only list of these fields, with their bounds.

The REST body, the batch command, the command line and vLLM's parameters derive their fields from this class.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Interval

from ampsweep.errors import InvalidRequest

MaxTokens = Annotated[int, Interval(ge=1)]
AnswerCount = Annotated[int, Interval(ge=1, le=128)]
Temperature = Annotated[float, Interval(ge=0, le=2)]
TopP = Annotated[float, Interval(gt=0, le=1)]
SamplingSeed = Annotated[int, Interval(ge=0, lt=2**63)]
TopLogprobs = Annotated[int, Interval(ge=0, le=20)]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the tokens of `n` answers are chosen.

    The logits l of a step are transformed in this order: `repetition_penalty`, `frequency_penalty`,
    `presence_penalty`, `temperature`, `min_p`, `top_k`, `top_p`. With a seed, a request gets the same answers alone
    and in any batch, on a GPU as far as rounding allows: its matrix products round differently in batches of other
    sizes, unless vLLM runs in its batch-invariant mode.

    Raises:
        InvalidRequest: A field is out of range; `param` names it.
    """

    max_tokens: MaxTokens = 64
    """Number of tokens of an answer, at most."""
    n: AnswerCount = 1
    """Number of answers. The i-th, counted from 0, is sampled with `seed + i`."""
    temperature: Temperature = 0.0
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
    ignore_eos: bool = False
    """Continue after the end-of-sequence token."""
    top_logprobs: TopLogprobs = 0
    """Number of likeliest alternatives that are reported for each token."""

    def __post_init__(self) -> None:
        """Check the bounds, so that no engine has to."""
        for name, bounds in SAMPLING_BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not all(_HOLDS[kind](value, bound) for kind, bound in bounds.items()):
                allowed = " and ".join(f"{_WORDS[kind]} {bound}" for kind, bound in bounds.items())
                raise InvalidRequest(f"{name} must be {allowed}; got {value}", param=name)


SAMPLING_TYPES: Mapping[str, Any] = get_type_hints(SamplingParams, include_extras=True)
"""The type of each field, annotated with its bounds, as Pydantic's `create_model` takes it."""

_HOLDS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _interval(hint: Any) -> Interval | None:
    """Return the bounds in a type such as `Annotated[int, Interval(ge=0)] | None`."""
    parts = (*getattr(hint, "__metadata__", ()), *get_args(hint))
    intervals = (part if isinstance(part, Interval) else _interval(part) for part in parts)
    return next((interval for interval in intervals if interval is not None), None)


def _bounds(hint: Any) -> Mapping[str, float]:
    bounds = {kind: getattr(_interval(hint), kind, None) for kind in _HOLDS}
    return {kind: bound for kind, bound in bounds.items() if bound is not None}


SAMPLING_BOUNDS: Mapping[str, Mapping[str, float]] = {name: _bounds(hint) for name, hint in SAMPLING_TYPES.items()}
"""The bounds of each field: {"temperature": {"ge": 0, "le": 2}, ...}."""
