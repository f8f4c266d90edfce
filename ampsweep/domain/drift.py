"""Steering that depends on the running text of an answer: the fields `when` and `part` of an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from ampsweep.domain.validation import StrictModel

Part = Literal["thinking", "answer"]
"""What a reasoning model thinks before it answers, and the rest of its text."""


class Drift(StrictModel):
    """Steer an answer only while its running text is in another language than the targets of the intervention.

    The language of the end of the text is identified again and again. Steering is off at the beginning. It is switched
    on by `switch_on` identifications in a row of other languages than the targets, and off by `switch_off` of a target.
    Text without letters and text whose language is unclear decide nothing. A switch takes effect at the token after the
    one that completed the text.

    Attributes:
        min_characters: Characters of the answer before the first identification.
        window: How many of the last characters are looked at.
        every: New characters before the next identification.
        switch_on: Identifications of other languages in a row that switch steering on.
        switch_off: Identifications of a target language in a row that switch it off.
        confidence: The identifier's least confidence in a language that decides.
    """

    min_characters: Annotated[int, Field(ge=1, le=100_000)] = 60
    window: Annotated[int, Field(ge=10, le=10_000)] = 80
    every: Annotated[int, Field(ge=1, le=10_000)] = 30
    switch_on: Annotated[int, Field(ge=1, le=100)] = 2
    switch_off: Annotated[int, Field(ge=1, le=100)] = 2
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.7

    @property
    def label(self) -> str:
        """`drift`, with the settings that are not the defaults, as in `drift, window=120, switch_on=1`."""
        changed = self.model_dump(exclude_defaults=True)
        return ", ".join(["drift", *(f"{name}={value}" for name, value in changed.items())])


class WhenSpec(StrictModel):
    """When an intervention steers, with the settings."""

    drift: Drift


def _when_kind(value: object) -> str:
    return "a word" if isinstance(value, str) else "an object"


When = Annotated[
    Annotated[Literal["drift"], Tag("a word")] | Annotated[WhenSpec, Tag("an object")], Discriminator(_when_kind)
]
"""The field `when`: the word `drift`, or an object with its settings."""


def drift_of(when: str | Mapping[str, Any] | WhenSpec | None) -> Drift | None:
    """Return what a valid field `when` asks for, in any of its forms; None without one."""
    if when is None or isinstance(when, WhenSpec):
        return None if when is None else when.drift
    return Drift() if isinstance(when, str) else Drift(**when["drift"])


def check_when(when: object, part: object, scope: str, tokens: object) -> None:
    """Check that nothing but the running text decides which generated tokens an intervention edits.

    Raises:
        PydanticCustomError: With the wrong field as `key` in its context.
    """
    for name, value in {"when": when, "part": part}.items():
        if value is not None and scope == "prompt":
            message = "must not be prompt with {name}: the running text begins after the prompt; leave one of them out"
            raise PydanticCustomError("when_scope", message, {"key": "scope", "name": name})
        if value is not None and tokens is not None:
            message = "cannot be combined with {name}: the text decides which tokens are edited; leave one of them out"
            raise PydanticCustomError("when_tokens", message, {"key": "tokens", "name": name})
