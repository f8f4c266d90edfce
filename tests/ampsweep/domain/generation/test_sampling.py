"""Sampling parameters outside their ranges are rejected; the bounds are allowed."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.generation.sampling import SamplingParams, token_ids
from ampsweep.errors import InvalidRequest

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("max_tokens", 0),
        ("n", 0),
        ("n", 129),
        ("temperature", -1.0),
        ("temperature", 2.1),
        ("temperature", NAN),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("frequency_penalty", 2.1),
        ("presence_penalty", NAN),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", INF),
        ("seed", -1),
        ("seed", 2**63),
        ("top_logprobs", -1),
        ("top_logprobs", 21),
        ("min_tokens", -1),
        ("min_tokens", 65),  # more than the default of max_tokens
        ("stop_token_ids.1", (0, -1)),
        ("bad_words.1", ("a", " \n")),
        ("logit_bias.7", {7: 100.5}),
        ("logit_bias.7", {3: -100, 7: NAN}),
    ],
)
def test_invalid_sampling_is_refused_by_field(field: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        SamplingParams(**{field.partition(".")[0]: wrong})
    assert caught.value.param == field


def test_the_ends_of_the_ranges_are_allowed() -> None:
    low: dict[str, Any] = {
        "max_tokens": 1,
        "n": 1,
        "temperature": 0,
        "top_k": 0,
        "min_p": 0,
        "seed": 0,
        "top_logprobs": 0,
    }
    low |= {"min_tokens": 1, "stop_token_ids": (0,), "logit_bias": {0: -100}}
    high: dict[str, Any] = {"n": 128, "temperature": 2, "top_p": 1, "min_p": 1, "seed": 2**63 - 1, "top_logprobs": 20}
    for values in ({**low, "frequency_penalty": -2.0}, {**high, "presence_penalty": 2.0}):
        params = SamplingParams(**values)
        assert {field: getattr(params, field) for field in values} == values


def test_the_token_ids_of_all_fields_are_listed_with_their_paths() -> None:
    sampling = SamplingParams(stop_token_ids=(5, 6), logit_bias={9: 1.0, 4: 2.0}, seed=3, top_k=2)
    paths = {"stop_token_ids.0": 5, "stop_token_ids.1": 6, "logit_bias.9": 9, "logit_bias.4": 4}
    assert dict(token_ids(sampling)) == paths
