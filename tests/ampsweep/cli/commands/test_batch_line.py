"""The lines of a batch: their sampling fields, and the errors of invalid fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampsweep.cli.commands.batch_line import parse
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
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
    more: dict[str, Any] = {"min_tokens": 2, "include_stop_str_in_output": True, "logit_bias": {"5": -1, "6": 2.5}}
    sampling = request(**more, stop_token_ids=[3], bad_words=["b"], structured_outputs={"choice": ["a"]}).sampling
    assert sampling == SamplingParams(
        **{**more, "logit_bias": {5: -1.0, 6: 2.5}},
        stop_token_ids=(3,),
        bad_words=("b",),
        structured_outputs=StructuredOutputs(choice=("a",)),
    )
    assert request().sampling == SamplingParams()


def test_a_line_names_an_adapter_or_none() -> None:
    score = {"custom_id": "b", "kind": "score", "context": "The", "continuation": " rain"}
    generate = {"custom_id": "a", "kind": "generate", "prompt": "The"}
    for line in (score, generate):
        assert parse(json.dumps({**line, "adapter": "formal"})).request(None).adapter == "formal"
        assert parse(json.dumps(line)).request(None).adapter is None


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("temperature", 2.5),
        ("stop", "a"),
        ("min_tokens", 2000),
        ("bad_words.0", [" "]),
        ("structured_outputs", {}),
        ("structured_outputs.wat", {"wat": 1}),
        ("logit_bias.the", {"the": 1}),
        ("stop_token_ids.0", [-1]),
        ("best_of", 2),
        ("n", 2),
        ("top_logprobs", 1),
    ],
)
def test_a_field_that_a_line_cannot_have_is_refused_by_its_name(path: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request(**{path.partition(".")[0]: wrong})
    assert refused.value.param == f"sampling.{path}"


@pytest.mark.parametrize("line", ["{}", '{"custom_id": "a", "kind": null}', '{"custom_id": "a", "kind": "chat"}'])
def test_a_line_without_a_known_kind_is_refused_with_the_kinds(line: str) -> None:
    with pytest.raises(InvalidRequest, match="must be generate or score") as refused:
        parse(line)
    assert refused.value.param == "kind"
