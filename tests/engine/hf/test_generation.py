"""Several answers to one prompt, and the log-probabilities of each token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.sampling import SamplingParams
from benchmarks.tiny_models import Family
from engine.base import GenerateRequest
from engine.hf.engine import TransformersEngine


@pytest.fixture
def engine(reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    return reference("llama")


def generate(engine: TransformersEngine, **sampling: Any) -> list[list[Chunk]]:
    """Return the chunks of each answer."""

    async def collect() -> list[Chunk]:
        request = GenerateRequest(
            prompt="The end is", sampling=SamplingParams(max_tokens=6, ignore_eos=True, **sampling)
        )
        return [chunk async for chunk in engine.generate(request)]

    chunks = asyncio.run(collect())
    return [[chunk for chunk in chunks if chunk.index == index] for index in range(chunks[-1].index + 1)]


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def test_n_answers_equal_single_answers_with_consecutive_seeds(engine: TransformersEngine) -> None:
    together = generate(engine, n=3, temperature=1.0, seed=8)
    alone = [generate(engine, temperature=1.0, seed=8 + index)[0] for index in range(3)]
    assert [tokens(answer) for answer in together] == [tokens(answer) for answer in alone]
    assert len({tuple(tokens(answer)) for answer in together}) == 3
    assert [answer[-1].finish_reason for answer in together] == ["length"] * 3


def test_top_logprobs_are_the_models_likeliest_tokens(engine: TransformersEngine) -> None:
    (answer,) = generate(engine, top_logprobs=4)
    for chunk in answer:
        (alternatives,) = chunk.top_logprobs
        assert (alternatives[0].token_id, alternatives[0].text) == (chunk.token_ids[0], chunk.token_texts[0])
        assert alternatives[0].logprob == pytest.approx(chunk.logprobs[0])
        assert len({entry.token_id for entry in alternatives}) == 4
        assert [entry.logprob for entry in alternatives] == sorted(entry.logprob for entry in alternatives)[::-1]
    (plain,) = generate(engine)
    assert [chunk.top_logprobs for chunk in plain] == [((),)] * 6


def test_log_probabilities_ignore_the_sampling_parameters(engine: TransformersEngine) -> None:
    (answer,) = generate(engine, top_logprobs=20, temperature=2.0, top_k=1, repetition_penalty=3.0)
    (greedy,) = generate(engine, top_logprobs=20)
    np.testing.assert_allclose(
        [entry.logprob for entry in answer[0].top_logprobs[0]], [entry.logprob for entry in greedy[0].top_logprobs[0]]
    )
