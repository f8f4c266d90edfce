"""Sampling follows the formulas of `SamplingParams`, computed by hand for a vocabulary of five tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from ampsweep.domain.generation.sampling import SamplingParams
from engine.hf.sampler import Sampler

LOGITS = torch.tensor([2.0, 1.9, 1.0, -1.0, -4.0])


def greedy(prompt: list[int], steps: int, **sampling: Any) -> list[int]:
    draw = Sampler(SamplingParams(**sampling), prompt, index=0)
    return [draw.next(LOGITS) for _ in range(steps)]


def odds(monkeypatch: pytest.MonkeyPatch, **sampling: Any) -> dict[int, float]:
    """Return the weight with which each token is drawn, for tokens whose weight is not 0."""
    weights: list[float] = []

    def draw(probability: torch.Tensor, _count: int, *, generator: object) -> torch.Tensor:
        """Draw one token after another, from the likeliest on."""
        weights.append(float(probability[len(weights)]))
        return torch.tensor([len(weights) - 1])

    monkeypatch.setattr(torch, "multinomial", draw)
    params = SamplingParams(temperature=1.0, **sampling)
    tokens = [Sampler(params, [], index=0).next(LOGITS) for _ in LOGITS]
    return {token: weight for token, weight in zip(tokens, weights, strict=True) if weight}


def test_a_token_is_drawn_as_often_as_its_weight_says() -> None:
    params = SamplingParams(temperature=1.0, top_k=2, seed=0)  # the number of an answer is added to the seed
    drawn = [Sampler(params, [], index=index).next(LOGITS) for index in range(600)]
    expected = 1 / (1 + math.exp(-0.1))
    assert set(drawn) == {0, 1}
    assert abs(drawn.count(0) / 600 - expected) <= 4 * (expected * (1 - expected) / 600) ** 0.5


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


def test_only_allowed_tokens_are_sampled() -> None:
    """If the end token alone is allowed and too early, the first token is sampled, as by vLLM."""
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0])
    greedy = SamplingParams(allowed_token_ids=(2, 3), logit_bias={1: 50.0})
    assert Sampler(greedy, (), index=0).next(logits) == 3
    drawn = [Sampler(replace(greedy, temperature=2.0, seed=seed), (), index=0).next(logits) for seed in range(40)]
    assert {*drawn} == {2, 3}
    too_early = SamplingParams(allowed_token_ids=(2,), min_tokens=1, temperature=1.0)
    assert Sampler(too_early, (), index=0, end_tokens=[2]).next(logits) == 0


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
def test_truncation_keeps_the_odds_of_the_remaining_tokens(
    sampling: dict[str, Any], remaining: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = odds(monkeypatch, **sampling)
    assert set(weights) == set(remaining)
    total = sum(math.exp(float(LOGITS[token])) for token in remaining)
    for token, weight in weights.items():
        assert weight / sum(weights.values()) == pytest.approx(math.exp(float(LOGITS[token])) / total, rel=1e-5)


def test_answer_i_is_sampled_with_the_seed_plus_i() -> None:
    def tokens(seed: int, index: int) -> list[int]:
        draw = Sampler(SamplingParams(temperature=1.5, seed=seed), [], index=index)
        return [draw.next(LOGITS) for _ in range(12)]

    assert tokens(3, 2) == tokens(5, 0) != tokens(3, 0)
