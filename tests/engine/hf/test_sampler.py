"""Sampling follows the formulas of `SamplingParams`, computed by hand for a vocabulary of five tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ampsweep.domain.sampling import SamplingParams
from engine.hf.sampler import Sampler

LOGITS = torch.tensor([2.0, 1.9, 1.0, -1.0, -4.0])


def greedy(prompt: list[int], steps: int, **sampling: Any) -> list[int]:
    draw = Sampler(SamplingParams(**sampling), prompt, index=0)
    return [draw.next(LOGITS) for _ in range(steps)]


def shares(**sampling: Any) -> dict[int, float]:
    """Return the share of 2000 answers, whose numbers are added to the seed, in which each token is sampled first."""
    params = SamplingParams(temperature=1.0, seed=0, **sampling)
    drawn = [Sampler(params, [], index=index).next(LOGITS) for index in range(2000)]
    return {token: drawn.count(token) / len(drawn) for token in set(drawn)}


def test_presence_is_penalized_once_and_frequency_each_time() -> None:
    assert greedy([], 4, presence_penalty=1.5) == [0, 1, 2, 0]  # 2.0 1.9 1.0 -> 0.5 0.4 1.0 -> 0.5 0.4 -0.5
    assert greedy([], 5, frequency_penalty=0.5) == [0, 1, 0, 1, 0]  # 2.0 1.9 1.5 1.4; then 1.0 ties with token 2
    assert greedy([0], 1, presence_penalty=2.0, frequency_penalty=2.0) == [
        0
    ]  # neither penalty counts the prompt's tokens


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-7])
def test_the_least_temperatures_sample_the_likeliest_token(temperature: float) -> None:
    draw = Sampler(SamplingParams(temperature=temperature, seed=1), [], index=0)
    assert [draw.next(LOGITS) for _ in range(3)] == [0, 0, 0]


def test_repetition_penalty_covers_the_prompt_and_logits_of_either_sign() -> None:
    assert greedy([0], 1, repetition_penalty=1.1) == [1]  # 2.0 / 1.1 < 1.9
    assert greedy([], 3, repetition_penalty=4.0) == [0, 1, 2]
    draw = Sampler(SamplingParams(repetition_penalty=3.0), [0], index=0)
    assert draw.next(torch.tensor([-1.0, -2.0])) == 1  # -1 becomes -3


def test_a_bias_is_added_before_the_penalties() -> None:
    assert greedy([], 1, logit_bias={1: 0.2}) == [1]
    assert greedy([], 1, logit_bias={4: 6.1, 0: -100.0}) == [4]
    assert greedy([1], 1, logit_bias={1: 1.0}, repetition_penalty=1.5) == [0]  # (1.9 + 1) / 1.5 < 2.0 < 1.9 / 1.5 + 1
    assert LOGITS.tolist() == pytest.approx([2.0, 1.9, 1.0, -1.0, -4.0])


def test_a_bad_word_is_not_completed() -> None:
    def steps(count: int, *bad_words: list[int]) -> list[int]:
        draw = Sampler(SamplingParams(frequency_penalty=0.6), [0], index=0, bad_words=bad_words)
        return [draw.next(LOGITS) for _ in range(count)]

    assert steps(4) == [0, 1, 0, 1]
    assert steps(3, [0]) == [1, 1, 2]  # 1.9, 1.3, then 0.7 and 1.0
    assert steps(3, [0, 1]) == [0, 0, 2], "1 is not sampled after 0; 2.0, 1.4, then 0.8 and 1.0"
    assert steps(2, [0, 0]) == [0, 1], "the tokens of the prompt do not count"


def test_an_end_token_is_sampled_after_enough_others() -> None:
    draw = Sampler(SamplingParams(min_tokens=2), [], index=0, end_tokens={0, 1})
    assert [draw.next(LOGITS) for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize(
    ("sampling", "remaining"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"min_p": 0.5}, [0, 1]),  # exp(-0.1) is above a half, exp(-1) below
        ({"min_p": 0.3}, [0, 1, 2]),
        ({"top_p": 0.5}, [0, 1]),
        ({"top_k": 3, "top_p": 0.45}, [0, 1]),  # of three, token 0 has 0.44
        ({"min_p": 0.5, "top_p": 0.52}, [0]),  # of two, token 0 has 0.525
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_truncation_keeps_the_odds_of_the_remaining_tokens(sampling: dict[str, Any], remaining: list[int]) -> None:
    weights = {token: math.exp(float(LOGITS[token])) for token in remaining}
    total = sum(weights.values())
    measured = shares(**sampling)
    assert set(measured) <= set(remaining)
    for token in remaining:
        expected = weights[token] / total
        assert abs(measured.get(token, 0.0) - expected) <= 4 * (expected * (1 - expected) / 2000) ** 0.5


def test_answer_i_is_sampled_with_the_seed_plus_i() -> None:
    def tokens(seed: int, index: int) -> list[int]:
        draw = Sampler(SamplingParams(temperature=1.5, seed=seed), [], index=index)
        return [draw.next(LOGITS) for _ in range(12)]

    assert tokens(3, 2) == tokens(5, 0) != tokens(3, 0)
