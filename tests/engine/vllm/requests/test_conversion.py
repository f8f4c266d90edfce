"""Every sampling parameter reaches vLLM."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest
from engine.detokenizer import TokenTexts
from engine.vllm.requests.conversion import AnswerReader, answer_params, is_long
from engine.vllm.requests.request_extras import RequestExtras
from tests.engine.tokenizers import byte_level

pytestmark = pytest.mark.engine

NOT_DEFAULT: dict[str, Any] = {
    "max_tokens": 7,
    "n": 3,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 5,
    "min_p": 0.125,
    "frequency_penalty": 1.5,
    "presence_penalty": -0.5,
    "repetition_penalty": 2.0,
    "seed": 10,
    "stop": ("x",),
    "min_tokens": 3,
    "stop_token_ids": (7, 9),
    "include_stop_str_in_output": True,
    "bad_words": ("z",),
    "logit_bias": {5: -1.5},
    "allowed_token_ids": (5, 6),
    "structured_outputs": StructuredOutputs(choice=("a", "b")),
    "ignore_eos": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "top_logprobs": 4,
}


def test_each_field_is_passed_to_vllm() -> None:
    import vllm

    assert set(NOT_DEFAULT) == {field.name for field in fields(SamplingParams)}
    params = answer_params(SamplingParams(**NOT_DEFAULT), index=2, max_new_tokens=100, extras=RequestExtras())
    expected = {**NOT_DEFAULT, "n": 1, "seed": 12}  # one answer a request, the third of the seeds
    expected |= {"stop": ["x"], "stop_token_ids": [7, 9], "bad_words": ["z"], "allowed_token_ids": [5, 6]}
    expected["structured_outputs"] = vllm.sampling_params.StructuredOutputsParams(choice=["a", "b"])
    expected["logprobs"] = expected.pop("top_logprobs")
    assert {name: getattr(params, name) for name in expected} == expected


def test_vllm_returns_an_answer_that_is_not_streamed_at_its_end() -> None:
    from vllm.sampling_params import RequestOutputKind

    for stream, kind in ((True, RequestOutputKind.DELTA), (False, RequestOutputKind.FINAL_ONLY)):
        params = answer_params(SamplingParams(), index=0, max_new_tokens=9, extras=RequestExtras(), stream=stream)
        assert params.output_kind == kind


@pytest.mark.parametrize(
    ("tokens", "prompt_logprobs", "expected"), [(1, None, False), (257, None, True), (1, [None, {}], True)]
)
def test_an_output_with_many_tokens_is_long(tokens: int, prompt_logprobs: Any, expected: bool) -> None:
    part = SimpleNamespace(token_ids=[5] * tokens)
    assert is_long(cast("Any", SimpleNamespace(outputs=[part], prompt_logprobs=prompt_logprobs))) == expected


def test_a_parser_of_tool_calls_may_need_the_special_tokens() -> None:
    for skip, needed, skipped in ((True, False, True), (True, True, False), (False, False, False)):
        sampling = SamplingParams(skip_special_tokens=skip)
        params = answer_params(sampling, index=0, max_new_tokens=9, extras=RequestExtras(), special_tokens=needed)
        assert params.skip_special_tokens == skipped


def test_an_answer_ends_where_the_context_does() -> None:
    params = answer_params(SamplingParams(max_tokens=50), index=0, max_new_tokens=20, extras=RequestExtras())
    assert (params.max_tokens, params.seed, params.temperature) == (20, None, 0.0)


@pytest.mark.parametrize(
    ("form", "kind", "param"),
    [(None, EngineFailed, None), (StructuredOutputs(regex="a"), InvalidRequest, "structured_outputs")],
)
def test_a_request_that_vllm_ends_with_an_error_fails(
    form: StructuredOutputs | None, kind: type[AmpsweepError], param: str | None
) -> None:
    reader = AnswerReader(SamplingParams(structured_outputs=form), TokenTexts(byte_level()), index=0, prompt=())
    part = SimpleNamespace(finish_reason="error", token_ids=[], logprobs=[], text="", stop_reason=None)
    with pytest.raises(kind) as failed:
        reader.read(cast("Any", SimpleNamespace(outputs=[part])))
    assert failed.value.param == param
