"""Structured outputs: constraints on the text of an answer, with the keys of vLLM's field `structured_outputs`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict, Strict

from ampsweep.errors import InvalidRequest

FIELD = "structured_outputs"
"""The name of the field in requests, to which errors refer."""
_Source = Annotated[str, MinLen(1), MaxLen(100_000)]


@dataclass(frozen=True, kw_only=True)
class StructuredOutputs:
    """A constraint on the text of an answer; exactly one field is set. Tokens that would violate it are not sampled.

    An answer that ends at `max_tokens` may be incomplete.

    Raises:
        InvalidRequest: No field is set, or several are (param "structured_outputs"), or `json_object` is false.

    Example:
        >>> StructuredOutputs(choice=("yes", "no")).to_dict()
        {'choice': ['yes', 'no']}
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    json: dict[str, Any] | _Source | None = None
    """A JSON schema, as an object or as its text."""
    json_object: Annotated[bool, Strict()] | None = None
    """Any JSON object; never False."""
    regex: _Source | None = None
    """A regular expression that the whole answer matches."""
    choice: Annotated[tuple[Annotated[str, MinLen(1), MaxLen(1000)], ...], MinLen(1), MaxLen(1000)] | None = None
    """The possible answers."""
    grammar: _Source | None = None
    """A context-free grammar in EBNF, whose first rule is `root`, or in Lark's syntax."""

    def __post_init__(self) -> None:
        """Check that exactly one field is set."""
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) != 1:
            names = ", ".join(field.name for field in fields(self))
            found = f"several: {', '.join(given)}" if given else "none"
            raise InvalidRequest(f"{FIELD} must have exactly one of {names}; got {found}", param=FIELD)
        if self.json_object is False:
            message = f"{FIELD}.json_object must be true; leave {FIELD} out for text in any form"
            raise InvalidRequest(message, param=f"{FIELD}.json_object")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: an object with the field that is set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
