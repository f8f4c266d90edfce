"""Answers of the transformers engine: where they end, how they are sampled, and the log-probabilities of each token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from benchmarks.comparisons.checksum_identifier import OFTEN, ChecksumIdentifier
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import MAX_MODEL_LEN, Family, tiny_model
from engine.base import GenerateRequest, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from tests.engine.forward import HandModel
from tests.engine.replay import assert_replayed


@pytest.fixture
def engine(reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    return reference("llama")


def generate(engine: TransformersEngine, prompt: str = "The end is", **sampling: Any) -> list[list[Chunk]]:
    """Return the chunks of each answer."""

    async def collect() -> list[Chunk]:
        params = SamplingParams(**{"max_tokens": 6, "ignore_eos": True, **sampling})
        request = GenerateRequest(prompt=prompt, sampling=params)
        return [chunk async for chunk in engine.generate(request)]

    chunks = asyncio.run(collect())
    return [[chunk for chunk in chunks if chunk.index == index] for index in range(chunks[-1].index + 1)]


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_n_answers_equal_single_answers_with_consecutive_seeds(engine: TransformersEngine) -> None:
    together = generate(engine, n=3, temperature=1.0, seed=8)
    single = [generate(engine, temperature=1.0, seed=8 + index)[0] for index in range(3)]
    assert [tokens(answer) for answer in together] == [tokens(answer) for answer in single]
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


def test_the_chunks_together_have_the_text_of_the_tokens(engine: TransformersEngine) -> None:
    (answer,) = generate(engine, max_tokens=40)
    decoded = engine._model.tokenizer.decode(tokens(answer), skip_special_tokens=True)
    assert text(answer) == decoded.rstrip("\ufffd")


def test_an_answer_ends_before_a_stop_string(engine: TransformersEngine) -> None:
    (whole,) = generate(engine, max_tokens=40)
    stop = text(whole)[5:7]
    (cut,) = generate(engine, max_tokens=40, stop=(stop, "not in the answer"))
    assert text(cut) == text(whole)[: text(whole).find(stop)]
    assert cut[-1].finish_reason == "stop"


def test_an_answer_may_include_the_stop_string(engine: TransformersEngine) -> None:
    (whole,) = generate(engine, max_tokens=40)
    stop = text(whole)[5:7]
    (cut,) = generate(engine, max_tokens=40, stop=(stop, "not in the answer"), include_stop_str_in_output=True)
    assert text(cut) == text(whole)[: text(whole).find(stop) + 2]
    assert cut[-1].finish_reason == "stop"


def test_a_stop_token_ends_the_answer_even_if_eos_does_not(engine: TransformersEngine) -> None:
    (whole,) = generate(engine, max_tokens=12)
    ids = tokens(whole)
    end = next(index for index in range(3, 12) if ids.index(ids[index]) == index)
    for include, visible in ((False, end), (True, end + 1)):
        (cut,) = generate(engine, max_tokens=12, stop_token_ids=(ids[end],), include_stop_str_in_output=include)
        assert tokens(cut) == ids[: end + 1]
        assert text(cut) == text(whole[:visible])
        assert cut[-1].finish_reason == "stop"
    (later,) = generate(engine, max_tokens=12, stop_token_ids=(ids[end],), min_tokens=end + 2)
    assert tokens(later)[:end] == ids[:end]
    assert ids[end] not in tokens(later)[: end + 2]
    assert len(tokens(later)) > end + 2


def test_what_the_model_cannot_follow_is_refused(engine: TransformersEngine) -> None:
    rows = engine._model.model.get_input_embeddings().num_embeddings
    cases: list[tuple[dict[str, Any], str]] = [
        ({"stop_token_ids": (0, rows)}, "stop_token_ids.1"),
        ({"logit_bias": {rows: 1.0}}, f"logit_bias.{rows}"),
        ({"min_tokens": MAX_MODEL_LEN}, "min_tokens"),
        ({"structured_outputs": StructuredOutputs(json_object=True)}, "structured_outputs"),
    ]
    for wrong, path in cases:
        with pytest.raises(InvalidRequest) as refused:
            generate(engine, max_tokens=MAX_MODEL_LEN, **wrong)
        assert refused.value.param == path


def test_a_bad_word_does_not_occur(engine: TransformersEngine) -> None:
    (whole,) = generate(engine, max_tokens=12)
    word = next(chunk.token_texts[0] for chunk in whole if chunk.token_texts[0].strip().isalpha())
    (other,) = generate(engine, max_tokens=12, bad_words=(word,))
    assert word in [chunk.token_texts[0] for chunk in whole]
    assert word not in [chunk.token_texts[0] for chunk in other]


def test_an_end_token_ends_the_answer_and_adds_no_text(tmp_path: Path) -> None:
    engine = TransformersEngine(tiny_model("qwen2", tmp_path / "model"))
    (whole,) = generate(engine, max_tokens=12, ignore_eos=False)
    whole_tokens = tokens(whole)
    ending = next(token for token in whole_tokens if whole_tokens.index(token) >= 3)
    engine._model.model.generation_config.eos_token_id = [1, ending]
    (cut,) = generate(engine, max_tokens=12, ignore_eos=False)
    assert tokens(cut) == whole_tokens[: whole_tokens.index(ending) + 1]
    assert cut[-1].finish_reason == "stop"
    assert text(cut) == text(whole[: whole_tokens.index(ending)])
    assert tokens(*generate(engine, max_tokens=12)) == whole_tokens
    asyncio.run(engine.close())


def test_a_seed_makes_sampling_reproducible(engine: TransformersEngine) -> None:
    answers = [tokens(*generate(engine, "The", max_tokens=12, temperature=1.0, seed=seed)) for seed in (4, 4, 5)]
    assert answers[0] == answers[1] != answers[2]
    greedy = tokens(*generate(engine, "The", max_tokens=12))
    assert tokens(*generate(engine, "The", max_tokens=12, temperature=1.0, top_p=1e-6, seed=4)) == greedy
    assert answers[0] != greedy


def test_tokens_are_sampled_with_the_models_probabilities(
    engine: TransformersEngine, model_folder: Callable[[Family], Path]
) -> None:
    drawn = [
        token
        for seed in range(0, 300, 100)
        for answer in generate(engine, "The", max_tokens=1, n=100, temperature=0.5, seed=seed)
        for token in tokens(answer)
    ]
    ids = engine._model.tokenizer.encode("The")
    predicted = torch.softmax(HandModel(model_folder("llama")).logprobs(ids)[-1] / 0.5, dim=-1)
    token = int(predicted.argmax())
    share, expected = drawn.count(token) / len(drawn), float(predicted[token])
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(drawn)) ** 0.5


def test_an_answer_ends_at_the_context_length(engine: TransformersEngine) -> None:
    (answer,) = generate(engine, "x" * (MAX_MODEL_LEN - 5), max_tokens=50)
    assert len(tokens(answer)) == MAX_MODEL_LEN - answer[0].prompt_tokens
    assert answer[-1].finish_reason == "length"


def test_an_answer_is_steered_only_where_its_text_has_drifted(model_folder: Callable[[Family], Path]) -> None:
    """One pass over prompt and answer, with edits at the reported tokens alone, gives the same log-probabilities."""
    engine = TransformersEngine(model_folder("llama"), open_identifier=ChecksumIdentifier)
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    raw = {"languages": ["fr"], "op": "set", "factor": 2.0}
    drifting, always = (
        Steering(intervention=Intervention.from_dict({**raw, **more}), neurons=neurons.id)
        for more in ({"when": OFTEN}, {})
    )

    async def answer(steering: Steering) -> list[Chunk]:
        sampling = SamplingParams(max_tokens=40, ignore_eos=True)
        request = GenerateRequest(prompt="an answer", sampling=sampling, steering=steering)
        return [chunk async for chunk in engine.generate(request)]

    chunks = asyncio.run(answer(drifting))
    assert_replayed(engine, always, "an answer", chunks)
    assert tokens(chunks) != tokens(asyncio.run(answer(always)))
    with pytest.raises(InvalidRequest, match="no running text"):
        asyncio.run(engine.score(ScoreRequest(context="The", continuation=" end", steering=drifting)))
    asyncio.run(engine.close())
