"""What a request carries to the workers in vLLM's `extra_args`: steering, recording, scoring and capture arguments.

`extra_args` holds plain values alone, so that every vLLM executor can send them; an intervention is in its JSON form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.base import Steering
from engine.capture.selection import NeuronSelection

KEY = "ampsweep"
"""The key of the extras in `extra_args`, and of an intervention in the `vllm_xargs` of a request to vLLM's server."""


@dataclass(frozen=True, kw_only=True)
class SteeringArgs:
    """Steers a request.

    Attributes:
        key: What fills the slot, see `steering_key`.
        neurons: Id of the neuron set.
        intervention: What fills the slot, with the tokens that are steered (its scope).
        prompt_tokens: Tokens from this position on count as generated.
        entries: Entries of the table that the intervention takes; 0 where no scheduler admits by them.
        switch: Name under which the request's steering is switched on and off; None if it is always on.
        on: Whether the switch is on at the first generated token.
    """

    key: str
    neurons: str
    intervention: Intervention
    prompt_tokens: int
    entries: int = 0
    switch: str | None = None
    on: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordingArgs:
    """Records a request's activations.

    Attributes:
        key: Name under which the workers hold the counts and sums.
        skip: Tokens at the start that are not recorded (special tokens).
        sums: Whether activations are summed, besides counting how often each is above 0.
        residual_counts: Whether it is counted how often the residual stream is above 0, besides summing it.
        group: Requests of one group that end in the same step are added up on the worker; None if each is read alone.
            A group has no `sums`, and all of it the same `residual_counts`.
    """

    key: str
    skip: int
    sums: bool
    residual_counts: bool = False
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScoringArgs:
    """Scores the last tokens of a prompt and one token after it.

    Attributes:
        key: Name under which the workers hold the log-probabilities.
        first: Position of the first scored token, at least 1.
        last: Id of the token after the prompt, which is scored but never fed to the model.
    """

    key: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class CaptureArgs:
    """Captures the activations of neurons at every token of a prompt.

    Attributes:
        key: Name under which the workers hold them.
        layers: Global indices of the layers.
        indices: The neurons of each layer, ascending; None for all of them.
    """

    key: str
    layers: list[int]
    indices: list[list[int] | None]

    @classmethod
    def of(cls, key: str, neurons: NeuronSelection, widths: LayerWidths) -> CaptureArgs:
        """Return the arguments for neurons of a model with these layers."""
        pairs = zip(neurons.layers, neurons.indices, strict=True)
        indices = [None if len(chosen) == widths.of(layer) else chosen.tolist() for layer, chosen in pairs]
        return cls(key=key, layers=list(neurons.layers), indices=indices)


@dataclass(frozen=True, kw_only=True)
class RequestExtras:
    """Everything that one request asks of the workers."""

    steer: SteeringArgs | None = None
    record: RecordingArgs | None = None
    score: ScoringArgs | None = None
    capture: CaptureArgs | None = None

    def extra_args(self) -> dict[str, Any]:
        """Return the extras as vLLM's `extra_args`."""
        raw = {name: dict(vars(args)) for name, args in vars(self).items() if args is not None}
        if self.steer is not None:
            raw["steer"]["intervention"] = self.steer.intervention.to_dict()
        return {KEY: raw} if raw else {}

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> RequestExtras:
        """Return the extras that `extra_args` carry; those of a plain request are empty."""
        raw = (extra_args or {}).get(KEY, {})
        steer, record, score, capture = (raw.get(name) for name in ("steer", "record", "score", "capture"))
        return cls(
            steer=steer and SteeringArgs(**{**steer, "intervention": Intervention.restore(steer["intervention"])}),
            record=record and RecordingArgs(**record),
            score=score and ScoringArgs(**score),
            capture=capture and CaptureArgs(**capture),
        )


def steering_key(steering: Steering) -> str:
    """Return the key of a slot. Two keys are equal exactly for the same intervention on the same neuron set."""
    return f"{steering.neurons}/{steering.intervention.hash}"


def steering_args(
    steering: Steering | None, prompt_tokens: int, *, entries: int = 0, switch: str | None = None, on: bool = False
) -> SteeringArgs | None:
    """Return the arguments for a request's steering, None for a request without one."""
    if steering is None:
        return None
    return SteeringArgs(
        key=steering_key(steering),
        neurons=steering.neurons,
        intervention=steering.intervention,
        prompt_tokens=prompt_tokens,
        entries=entries,
        switch=switch,
        on=on,
    )
