"""Differences of log-probabilities between vLLM and plain hooks, by a worked example."""

from __future__ import annotations

import pytest

from benchmarks.comparisons.answer_differences import Answered, Expected, compare_answers, rounding

ANSWERS = [
    Answered(task="lss", case="unsteered", ids=[1, 2, 3], token_ids=(2, 3), logprobs=(-1.0, -2.0)),
    Answered(task="generation", case="set", ids=[1, 4], token_ids=(4,), logprobs=(-0.5,)),
]
HOOKS = [Expected([-1.0, -2.4], [True, False]), Expected([-0.2], [True])]
EXACT = [Expected([-1.3, -2.4], [True, False]), Expected([-0.5], [True])]


def test_differences_are_listed_by_task_and_by_intervention() -> None:
    figures = compare_answers(ANSWERS, HOOKS)
    assert figures["task lss"] == {"tokens": 2, "largest": pytest.approx(0.4), "mean": pytest.approx(0.2)}
    assert figures["task lss"] == figures["intervention unsteered"]
    assert figures["intervention set"] == {"tokens": 1, "largest": pytest.approx(0.3), "mean": pytest.approx(0.3)}
    assert figures["greedy"] == {"tokens": 1, "equal": 1}


def test_rounding_is_the_distance_of_each_side_to_float32() -> None:
    assert rounding(ANSWERS, HOOKS, EXACT) == {
        "unsteered": {
            "vLLM to hooks": pytest.approx((0.4**2 / 2) ** 0.5),
            "vLLM to hooks in float32": pytest.approx(((0.3**2 + 0.4**2) / 2) ** 0.5),
            "hooks to hooks in float32": pytest.approx((0.3**2 / 2) ** 0.5),
        },
        "set": {
            "vLLM to hooks": pytest.approx(0.3),
            "vLLM to hooks in float32": 0.0,
            "hooks to hooks in float32": pytest.approx(0.3),
        },
    }
