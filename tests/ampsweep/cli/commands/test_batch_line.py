"""The lines of a batch: their sampling fields, and the errors of invalid fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampsweep.cli.commands.batch_line import parse
from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from engine.base import GenerateRequest


def request(**sampling: Any) -> GenerateRequest:
    line = {"custom_id": "a", "kind": "generate", "prompt": "The", "sampling": sampling}
    request = parse(json.dumps(line)).request(None)
    assert isinstance(request, GenerateRequest)
    return request


def test_a_line_takes_the_fields_of_sampling_params() -> None:
    values: dict[str, Any] = {
        "max_tokens": 3,
        "temperature": 1,
        "top_k": 2,
        "repetition_penalty": 1.5,
        "ignore_eos": True,
    }
    assert request(**values, stop=["a"]).sampling == SamplingParams(**values, stop=("a",))
    assert request().sampling == SamplingParams()


def test_a_line_names_an_adapter_or_none() -> None:
    score = {"custom_id": "b", "kind": "score", "context": "The", "continuation": " rain"}
    generate = {"custom_id": "a", "kind": "generate", "prompt": "The"}
    for line in (score, generate):
        assert parse(json.dumps({**line, "adapter": "formal"})).request(None).adapter == "formal"
        assert parse(json.dumps(line)).request(None).adapter is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("temperature", 2.5),
        ("stop", "a"),
        ("best_of", 2),
        ("n", 2),
        ("top_logprobs", 1),
    ],
)
def test_a_field_that_a_line_cannot_have_is_refused_by_its_name(field: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request(**{field: wrong})
    assert refused.value.param == f"sampling.{field}"


@pytest.mark.parametrize("line", ["{}", '{"custom_id": "a", "kind": null}', '{"custom_id": "a", "kind": "chat"}'])
def test_a_line_without_a_known_kind_is_refused_with_the_kinds(line: str) -> None:
    with pytest.raises(InvalidRequest, match="must be generate or score") as refused:
        parse(line)
    assert refused.value.param == "kind"
