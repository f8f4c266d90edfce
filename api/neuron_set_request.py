"""The bodies about neuron sets: neurons that are known already, or how to find them; which set is a model's default."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from jobs.spec import NeuronsByMethod
from jobs.validation import Name, StrictModel, validate

KnownNeurons = Annotated[
    dict[Name, dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], list[Annotated[int, Field(ge=0, lt=2**31)]]]],
    Field(min_length=1, max_length=1000),
]
"""{language: {layer: [index, ...]}}; a layer that is not there has no neurons."""


def _kind(raw: Any) -> str:
    by_method = isinstance(raw, NeuronsByMethod) or (isinstance(raw, dict) and isinstance(raw.get("method"), str))
    return "by method" if by_method else "known"


class NeuronSetRequest(StrictModel):
    """A model, and its neurons: as lists, or (as in a sweep's spec) by method, corpus and languages."""

    model: Name
    neurons: Annotated[
        Annotated[NeuronsByMethod, Tag("by method")] | Annotated[KnownNeurons, Tag("known")], Discriminator(_kind)
    ]


def parse_neuron_set(raw: object) -> NeuronSetRequest:
    """Read the body; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(NeuronSetRequest, raw)


class DefaultNeuronSetRequest(StrictModel):
    """The neuron set that steers a model's requests which name none."""

    neuron_set: Name


def parse_default(raw: object) -> str:
    """Read the body and return the id in it; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(DefaultNeuronSetRequest, raw).neuron_set
