"""What a request carries to the worker in vLLM's `extra_args`: plain values, so that any executor can send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampsweep.domain.intervention import Scope
from engine.base import Steering

_KEY = "ampsweep"


@dataclass(frozen=True, kw_only=True)
class SteeringArgs:
    """Steer this request; tokens from position `prompt_tokens` on count as generated. `key` names the slot.

    `intervention` is the public JSON form: it is read only where the slot is not filled yet.
    """

    key: str
    neurons: str
    intervention: Mapping[str, Any]
    scope: Scope
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class RecordingArgs:
    """Record this request's activations under `key`, those of its first `skip` tokens apart.

    Its tokens above 0 are counted; its activations are summed up where `sums` says so.
    """

    key: str
    skip: int
    sums: bool


@dataclass(frozen=True, kw_only=True)
class ScoringArgs:
    """Keep under `key` the log-probabilities of the prompt's tokens from position `first` (at least 1) on, then `last`.

    `last` is the token after the prompt.
    """

    key: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class RequestExtras:
    """All that one request asks of the worker."""

    steer: SteeringArgs | None = None
    record: RecordingArgs | None = None
    score: ScoringArgs | None = None

    def extra_args(self) -> dict[str, Any]:
        """Return the `extra_args` that carry the extras."""
        raw = {name: vars(order) for name, order in vars(self).items() if order is not None}
        return {_KEY: raw} if raw else {}

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> RequestExtras:
        """Read back what `extra_args` carries; a plain request has no orders."""
        raw = (extra_args or {}).get(_KEY, {})
        steer, record, score = raw.get("steer"), raw.get("record"), raw.get("score")
        return cls(
            steer=steer and SteeringArgs(**steer),
            record=record and RecordingArgs(**record),
            score=score and ScoringArgs(**score),
        )


def steering_key(steering: Steering) -> str:
    """Return what names a slot: equal exactly for the same intervention on the same neuron set."""
    return f"{steering.neurons}/{steering.intervention.hash}"


def steering_args(steering: Steering | None, prompt_tokens: int) -> SteeringArgs | None:
    """Return the order for a request's steering, if it has one."""
    if steering is None:
        return None
    return SteeringArgs(
        key=steering_key(steering),
        neurons=steering.neurons,
        intervention=steering.intervention.to_dict(),
        scope=steering.intervention.scope,
        prompt_tokens=prompt_tokens,
    )
