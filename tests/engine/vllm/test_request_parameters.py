"""Compares vLLM's parameters of prompts and answers with the reference implementation, under interventions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions
from ampsweep.domain.generation.sampling import SamplingParams
from engine.base import Engine, GenerateRequest, Steering
from engine.chat_template import write_chat
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both, both_engines

pytestmark = pytest.mark.engine

SETTINGS = VllmSettings(slots=8, max_num_seqs=8, kv_cache_bytes=64 * 1024**2, compile=False)
QUESTION = ChatMessage(
    role="user", content="in the beginning there was the sea and the wind and the rain, is it the end?"
)
CONTINUED = PromptOptions(continue_final_message=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both_engines("llama", tmp_path_factory.mktemp("llama"), SETTINGS) as engines:
        yield engines


async def answer(engine: Engine, prompt: Any, steering: Steering | None = None, **fields: Any) -> list[Chunk]:
    sampling = SamplingParams(max_tokens=8, ignore_eos=True, **fields.pop("sampling", {}))
    request = GenerateRequest(prompt=prompt, sampling=sampling, steering=steering, **fields)
    return [chunk async for chunk in engine.generate(request)]


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def assert_equal(mine: list[Chunk], reference: list[Chunk]) -> None:
    assert (tokens(mine), text(mine)) == (tokens(reference), text(reference))
    ours, theirs = ([value for chunk in chunks for value in chunk.logprobs] for chunks in (mine, reference))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "scope",
    [
        {"scope": "all"},
        {"scope": "prompt"},
        {"scope": "generation"},
        {"scope": "prompt", "tokens": {"start": -4}},
        {"scope": "generation", "tokens": {"positions": [0, 2]}},
    ],
)
def test_an_answer_that_is_continued_is_part_of_the_prompt(both: Both, scope: dict[str, Any]) -> None:
    """The chat is answered first, so that its blocks are in the prefix cache, and then again from within the answer."""
    steering = both.steering(["fr"], "set", 2.5, **scope)
    whole = both.run(answer(both.vllm, (QUESTION,), steering))
    begun = (QUESTION, ChatMessage(role="assistant", content=text(whole)[:9]))
    mine, reference = (
        both.run(answer(engine, begun, steering, options=CONTINUED)) for engine in (both.vllm, both.reference)
    )
    assert_equal(mine, reference)
    written = write_chat(both.reference._model.tokenizer, begun, options=CONTINUED)
    as_text = both.run(answer(both.vllm, written, steering, options=PromptOptions(add_special_tokens=False)))
    assert_equal(mine, as_text)
    assert mine[0].prompt_tokens == len(both.vllm.encoder.tokens(begun, options=CONTINUED)) > whole[0].prompt_tokens


@pytest.mark.parametrize("steered", [False, True])
def test_allowed_and_special_tokens_are_those_of_the_reference(both: Both, steered: bool) -> None:
    steering = both.steering(["fr"], "set", 2.5) if steered else None
    special = both.reference._model.tokenizer.all_special_ids
    ordinary = both.vllm.encoder.tokens("the end", options=PromptOptions(add_special_tokens=False))
    cases: list[dict[str, Any]] = [
        {"allowed_token_ids": ordinary, "repetition_penalty": 2.0},
        {"allowed_token_ids": (*special, *ordinary), "repetition_penalty": 5.0, "skip_special_tokens": False},
        {"allowed_token_ids": tuple(special), "skip_special_tokens": False, "spaces_between_special_tokens": False},
        {"allowed_token_ids": tuple(special)},
    ]
    texts = []
    for sampling in cases:
        mine, reference = (
            both.run(answer(engine, "in the beginning", steering, sampling=sampling))
            for engine in (both.vllm, both.reference)
        )
        assert_equal(mine, reference)
        assert {*tokens(mine)} <= {*sampling["allowed_token_ids"]}
        offsets = [[offset for chunk in chunks for offset in chunk.text_offsets] for chunks in (mine, reference)]
        assert offsets[0] == offsets[1]
        texts.append(text(mine))
    assert "<s>" in texts[2] or "</s>" in texts[2]
    assert texts[3] == ""


@pytest.mark.parametrize("steered", [False, True])
def test_a_prompt_has_the_tokens_log_probabilities_and_ranks_of_the_reference(both: Both, steered: bool) -> None:
    steering = both.steering(["fr"], "set", 2.5) if steered else None
    ours, theirs = (
        both.run(answer(engine, (QUESTION,), steering, prompt_logprobs=3, return_token_ids=True, sampling={"n": 2}))
        for engine in (both.vllm, both.reference)
    )
    ids = both.vllm.encoder.tokens((QUESTION,))
    for chunks in (ours, theirs):
        assert [chunk.prompt_token_ids for chunk in chunks if chunk.prompt_token_ids is not None] == [ids] * 2
        assert {chunk.index for chunk in chunks if chunk.prompt_token_ids is not None} == {0, 1}
    mine, reference = (next(chunk.prompt for chunk in chunks if chunk.prompt is not None) for chunks in (ours, theirs))
    assert mine.token_ids == reference.token_ids == ids
    assert mine.ranks == reference.ranks
    values = [[value for value in part.logprobs if value is not None] for part in (mine, reference)]
    np.testing.assert_allclose(np.array(values[0]), np.array(values[1]), rtol=0, atol=1e-4)
    for token, rank, likeliest in zip(ids[1:], mine.ranks[1:], mine.top_logprobs[1:], strict=True):
        assert (rank is not None and rank <= 3) == (token in [each.token_id for each in likeliest])
    assert len({*mine.ranks}) > 5
    plain = both.run(answer(both.vllm, (QUESTION,), steering))
    assert all(chunk.prompt is None and chunk.prompt_token_ids is None for chunk in plain)
