"""Structured outputs have exactly one form."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import InvalidRequest


@pytest.mark.parametrize(
    ("fields", "found"),
    [({}, "got none"), ({"regex": "a", "choice": ("a",)}, "got several: regex, choice")],
)
def test_no_form_or_two_are_refused(fields: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidRequest, match=f"exactly one of json, .*, grammar; {found}") as refused:
        StructuredOutputs(**fields)
    assert refused.value.param == "structured_outputs"


def test_an_object_cannot_be_declined() -> None:
    with pytest.raises(InvalidRequest, match="must be true") as refused:
        StructuredOutputs(json_object=False)
    assert refused.value.param == "structured_outputs.json_object"


def test_the_json_form_has_the_field_that_is_set() -> None:
    assert StructuredOutputs(choice=("a", "b")).to_dict() == {"choice": ["a", "b"]}
    assert StructuredOutputs(json={"type": "integer"}).to_dict() == {"json": {"type": "integer"}}
    assert StructuredOutputs(json_object=True).to_dict() == {"json_object": True}
