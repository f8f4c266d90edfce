"""The transformers engine with tokenizers that behave unusually."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import tiny_model
from engine.base import GenerateRequest, Score, ScoreRequest
from engine.hf.engine import TransformersEngine
from engine.identify.record_request import RecordRequest

Query = Callable[[TransformersEngine], Any]


def with_template(folder: Path, template: list[str]) -> Path:
    """Write a tiny model whose tokenizer puts special tokens around a text, which `template` calls "$A"."""
    tiny_model("qwen2", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}} if piece == "$A" else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece in template
    ]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            piece: {"id": piece, "ids": [index], "tokens": [piece]} for index, piece in enumerate(("<s>", "</s>"))
        },
    }
    path.write_text(json.dumps(tokenizer))
    return folder


def with_added_token(folder: Path) -> Path:
    """Write a tiny model whose tokenizer has one more token than the embedding has rows."""
    tiny_model("qwen2", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens(["<ja>"]) == 1
    tokenizer.save_pretrained(folder)
    return folder


def engine_answers(folder: Path, ask: Query) -> Any:
    async def run() -> Any:
        engine = TransformersEngine(folder)
        try:
            return await ask(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def right_logprobs(folder: Path, context: list[int], continuation: list[int]) -> list[float]:
    """Return the log-probabilities that the model itself assigns to the tokens of a continuation."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logprobs = model(torch.tensor([context + continuation])).logits[0].log_softmax(-1)
    positions = range(len(context) - 1, len(context) + len(continuation) - 1)
    return [float(logprobs[position, token]) for position, token in zip(positions, continuation, strict=True)]


def plain_ids(folder: Path, text: str) -> list[int]:
    return list(AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False))


@pytest.mark.parametrize(("template", "leading"), [(["$A", "</s>"], []), (["<s>", "$A", "</s>"], [0])])
def test_no_end_of_text_is_scored_continued_or_recorded(
    tmp_path: Path, template: list[str], leading: list[int]
) -> None:
    folder = with_template(tmp_path / "model", template)
    context, continuation = plain_ids(folder, "the end"), plain_ids(folder, " in")

    async def ask(engine: TransformersEngine) -> tuple[Score, list[Chunk], int]:
        score = await engine.score(ScoreRequest(context="the end", continuation=" in"))
        request = GenerateRequest(prompt="the end", sampling=SamplingParams(max_tokens=3))
        chunks = [chunk async for chunk in engine.generate(request)]
        stats = await engine.record([Sentence(language="en", text="the end")], RecordRequest(max_tokens=100))
        return score, chunks, int(stats.tokens[0])

    score, chunks, recorded = engine_answers(folder, ask)
    assert list(score.token_ids) == continuation
    assert score.logprobs == pytest.approx(right_logprobs(folder, [*leading, *context], continuation), abs=1e-5)
    assert {chunk.prompt_tokens for chunk in chunks} == {len(leading) + len(context)}
    assert recorded == len(context)


def test_a_continuation_that_merges_with_its_context_is_scored_from_the_border_before(tmp_path: Path) -> None:
    folder = tiny_model("llama", tmp_path / "model")
    whole = plain_ids(folder, "in the")

    async def ask(engine: TransformersEngine) -> list[Score]:
        texts = [("in t", "he"), ("in t", "o")]
        requests = [ScoreRequest(context=context, continuation=end, options=tuple(texts)) for context, end in texts]
        return [await engine.score(request) for request in requests]

    merged, other = engine_answers(folder, ask)
    border = len(plain_ids(folder, "in"))
    assert plain_ids(folder, "in t")[:-1] == whole[:border]
    assert (list(merged.token_ids), merged.spanned_join) == (whole[border:], True)
    assert merged.logprobs == pytest.approx(right_logprobs(folder, [0, *whole[:border]], whole[border:]), abs=1e-5)
    assert (list(other.token_ids), other.spanned_join) == (plain_ids(folder, "in to")[border:], False)
    assert merged.context_tokens == other.context_tokens == 1 + border


def test_a_text_with_a_token_without_an_embedding_fails_alone(tmp_path: Path) -> None:
    folder = with_added_token(tmp_path / "model")

    async def ask(engine: TransformersEngine) -> list[Any]:
        async def generate() -> list[Chunk]:
            return [chunk async for chunk in engine.generate(GenerateRequest(prompt="<ja> the end"))]

        good = ScoreRequest(context="the end", continuation=" in")
        calls: list[Coroutine[Any, Any, Any]] = [
            engine.score(good),
            generate(),
            engine.score(ScoreRequest(context="the", continuation=" <ja>")),
            engine.record([Sentence(language="ja", text="the <ja>")], RecordRequest(max_tokens=100)),
            engine.score(good),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    before, *refused, after = engine_answers(folder, ask)
    assert before == after
    assert [error.param for error in refused if isinstance(error, InvalidRequest)] == [
        "prompt",
        "continuation",
        "corpus",
    ]
