"""Every sampling parameter reaches vLLM."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from ampsweep.domain.sampling import SamplingParams
from engine.vllm.request_extras import RequestExtras
from engine.vllm.requests import answer_params

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
    "ignore_eos": True,
    "top_logprobs": 4,
}


def test_each_field_is_passed_to_vllm() -> None:
    assert set(NOT_DEFAULT) == {field.name for field in fields(SamplingParams)}
    params = answer_params(SamplingParams(**NOT_DEFAULT), index=2, max_new_tokens=100, extras=RequestExtras())
    expected = {**NOT_DEFAULT, "n": 1, "seed": 12, "stop": ["x"]}  # one answer a request, the third of the seeds
    expected["logprobs"] = expected.pop("top_logprobs")
    assert {name: getattr(params, name) for name in expected} == expected


def test_an_answer_ends_where_the_context_does() -> None:
    params = answer_params(SamplingParams(max_tokens=50), index=0, max_new_tokens=20, extras=RequestExtras())
    assert (params.max_tokens, params.seed, params.temperature) == (20, None, 0.0)
