"""What a request carries to the worker in vLLM's `extra_args`: plain values, so that any executor can send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.intervention import Intervention
from engine.protocol import Steering

KEY = "ampsweep"


def steering_key(steering: Steering) -> str:
    """Return what names a slot: equal exactly for the same intervention on the same neuron set."""
    return f"{steering.neurons}/{steering.intervention.hash}"


@dataclass(frozen=True, kw_only=True)
class SteerOrder:
    """Steer this request; tokens from position `prompt_tokens` on count as generated."""

    key: str
    neurons: str
    intervention: Intervention
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class RecordOrder:
    """Record this request's activations under `key`, those of its first `skip` tokens apart."""

    key: str
    skip: int


def steer_args(steering: Steering, prompt_tokens: int) -> dict[str, Any]:
    """Return the `extra_args` that make the worker steer a request."""
    return {
        KEY: {
            "key": steering_key(steering),
            "neurons": steering.neurons,
            "intervention": steering.intervention.to_dict(),
            "prompt_tokens": prompt_tokens,
        }
    }


def record_args(key: str, skip: int) -> dict[str, Any]:
    """Return the `extra_args` that make the worker record a request."""
    return {KEY: {"record": key, "skip": skip}}


def read_order(extra_args: Mapping[str, Any] | None) -> SteerOrder | RecordOrder | None:
    """Return what a request asks of the worker, None for a plain one."""
    raw = (extra_args or {}).get(KEY)
    if raw is None:
        return None
    if "record" in raw:
        return RecordOrder(key=raw["record"], skip=raw["skip"])
    return SteerOrder(
        key=raw["key"],
        neurons=raw["neurons"],
        intervention=Intervention.from_dict(raw["intervention"]),
        prompt_tokens=raw["prompt_tokens"],
    )
