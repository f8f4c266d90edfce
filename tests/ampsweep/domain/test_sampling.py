"""Sampling parameters outside their ranges are rejected; the bounds are allowed."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.sampling import SamplingParams
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
    ],
)
def test_invalid_sampling_is_refused_by_field(field: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        SamplingParams(**{field: wrong})
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
    high: dict[str, Any] = {"n": 128, "temperature": 2, "top_p": 1, "min_p": 1, "seed": 2**63 - 1, "top_logprobs": 20}
    for values in ({**low, "frequency_penalty": -2.0}, {**high, "presence_penalty": 2.0}):
        params = SamplingParams(**values)
        assert {field: getattr(params, field) for field in values} == values
