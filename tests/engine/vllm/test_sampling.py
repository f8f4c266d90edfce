"""Compares sampling and its log-probabilities under interventions in vLLM with the reference implementation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.chunk import Chunk, PromptPart
from ampsweep.domain.generation.prompt import ChatMessage, Prompt
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.domain.generation.tool_calls import ToolParsing
from ampsweep.errors import InvalidRequest
from engine.base import Engine, GenerateRequest, Score, ScoreRequest, Steering
from engine.steering.token_scope import TokenScope
from engine.vllm.requests.tool_calls import CallParsers
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import Both, both_engines

pytestmark = pytest.mark.engine

SETTINGS = VllmSettings(slots=4, max_num_seqs=8, kv_cache_bytes=64 * 1024**2, compile=False)
PROMPT = "the thing in the end is that nothing stands"
CHAT = (ChatMessage(role="user", content="is it the end?"),)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both_engines("llama", tmp_path_factory.mktemp("llama"), SETTINGS) as engines:
        yield engines


async def collect(engine: Engine, prompt: Prompt, steering: Steering | None, **sampling: Any) -> list[list[Chunk]]:
    """Return the chunks of each answer."""
    request = GenerateRequest(prompt=prompt, sampling=SamplingParams(**sampling), steering=steering)
    answers: list[list[Chunk]] = [[] for _ in range(request.sampling.n)]
    async for chunk in engine.generate(request):
        answers[chunk.index].append(chunk)
    return answers


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def reference_logprobs(both: Both, steering: Steering, answer: list[int]) -> list[float]:
    """Return the reference implementation's log-probability of each token of an answer to PROMPT."""
    model = both.reference._model
    prompt = model.tokenizer.encode(PROMPT)
    scope = TokenScope.of(steering.intervention, prompt_tokens=len(prompt))
    logits, _ = model.logits([*prompt, *answer], edits=both.reference._edits(steering), scope=scope)
    logprobs = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
    return [float(logprobs[index, token]) for index, token in enumerate(answer)]


def steerings(both: Both) -> list[Steering | None]:
    return [None, both.steering(["fr"], "set", 2.0), both.steering(["tr"], "scale", -2.0, scope="generation")]


@pytest.mark.parametrize(
    "sampling",
    [
        {"repetition_penalty": 3.0},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"presence_penalty": 2.0, "repetition_penalty": 1.5},
        {"temperature": 1.5, "top_k": 1},
        {"temperature": 1.5, "min_p": 1.0},
        {"temperature": 2.0, "top_p": 1e-6, "frequency_penalty": 2.0},
        {"logit_bias": {5: 3.5, 6: -100.0, 40: 3.0}, "repetition_penalty": 2.0},
        {"bad_words": ("the", "in the", "nd", "stand"), "presence_penalty": 1.0},
    ],
)
def test_sampling_parameters_have_the_effect_they_have_in_the_reference(both: Both, sampling: dict[str, Any]) -> None:
    async def all_of(engine: Engine) -> list[list[list[Chunk]]]:
        answers = (collect(engine, PROMPT, steering, max_tokens=16, **sampling) for steering in steerings(both))
        return await asyncio.gather(*answers)

    for (mine,), (reference,) in zip(both.run(all_of(both.vllm)), both.run(all_of(both.reference)), strict=True):
        assert tokens(mine) == tokens(reference)
        assert [text for chunk in mine for text in chunk.token_texts] == [
            text for chunk in reference for text in chunk.token_texts
        ]
        assert [offset for chunk in mine for offset in chunk.text_offsets] == [
            offset for chunk in reference for offset in chunk.text_offsets
        ]


@pytest.mark.parametrize(
    "sampling",
    [
        {"max_tokens": 12},
        {"max_tokens": 300, "ignore_eos": True},
        {"max_tokens": 24, "temperature": 1.5, "seed": 3, "n": 3, "top_logprobs": 2},
        {"max_tokens": 24, "stop": ("e", "th"), "min_tokens": 3},
        {"max_tokens": 24, "stop": ("e",), "include_stop_str_in_output": True},
        {"max_tokens": 24, "temperature": 2.0, "seed": 5, "stop_token_ids": tuple(range(0, 276, 7))},
    ],
)
def test_an_answer_that_is_not_streamed_is_the_same_in_one_chunk(both: Both, sampling: dict[str, Any]) -> None:
    request = GenerateRequest(
        prompt=PROMPT,
        sampling=SamplingParams(**sampling),
        steering=both.steering(["fr"], "set", 2.0),
        prompt_logprobs=1,
        return_token_ids=True,
    )

    async def answers(asked: GenerateRequest) -> list[list[Chunk]]:
        chunks = [chunk async for chunk in both.vllm.generate(asked)]
        return [[chunk for chunk in chunks if chunk.index == index] for index in range(asked.sampling.n)]

    streamed, whole = both.run(answers(request)), both.run(answers(replace(request, stream=False)))
    for parts, (chunk,) in zip(streamed, whole, strict=True):
        assert len(parts) == len(chunk.token_ids)
        for name in ("token_ids", "token_texts", "text_offsets"):
            assert getattr(chunk, name) == tuple(one for part in parts for one in getattr(part, name))
        assert chunk.text == text(parts)
        assert chunk.finish_reason == parts[-1].finish_reason
        assert chunk.prompt_token_ids == parts[0].prompt_token_ids
        assert chunk.prompt is not None
        assert parts[0].prompt is not None
        assert (chunk.prompt.text, chunk.prompt.token_ids) == (parts[0].prompt.text, parts[0].prompt.token_ids)
        np.testing.assert_allclose(chunk.logprobs, [one for part in parts for one in part.logprobs], rtol=0, atol=1e-4)
        alternatives = [[one.token_id for one in tokens] for part in parts for tokens in part.top_logprobs]
        assert [[one.token_id for one in tokens] for tokens in chunk.top_logprobs] == alternatives


def test_top_logprobs_equal_the_reference(both: Both) -> None:
    """This also holds if requests with and without top_logprobs share a batch."""

    async def all_of(engine: Engine) -> list[list[list[Chunk]]]:
        answers = [
            collect(engine, PROMPT, steering, max_tokens=6, temperature=0.0, repetition_penalty=2.0, top_logprobs=count)
            for steering in steerings(both)
            for count in (0, 5, 20)
        ]
        return await asyncio.gather(*answers)

    ours, references = both.run(all_of(both.vllm)), both.run(all_of(both.reference))
    for (mine,), (reference,) in zip(ours, references, strict=True):
        pairs = zip(
            (entry for chunk in mine for entry in chunk.top_logprobs),
            (entry for chunk in reference for entry in chunk.top_logprobs),
            strict=True,
        )
        for alternatives, expected in pairs:
            assert [(entry.token_id, entry.text) for entry in alternatives] == [
                (entry.token_id, entry.text) for entry in expected
            ]
            np.testing.assert_allclose(
                [entry.logprob for entry in alternatives], [entry.logprob for entry in expected], rtol=0, atol=1e-4
            )


def test_an_unlikely_sampled_token_is_not_among_top_logprobs(both: Both) -> None:
    (answer,) = both.run(collect(both.vllm, PROMPT, None, max_tokens=40, temperature=2.0, seed=1, top_logprobs=1))
    likeliest = [entry for chunk in answer for (entry,) in chunk.top_logprobs]
    assert any(entry.token_id != token for entry, token in zip(likeliest, tokens(answer), strict=True))
    assert all(
        entry.logprob >= sampled
        for entry, sampled in zip(likeliest, (value for chunk in answer for value in chunk.logprobs), strict=True)
    )


def test_a_seed_gives_the_same_answers_alone_and_in_a_batch(both: Both) -> None:
    """Each of the n answers is steered and has its own seed."""
    steering = both.steering(["fr"], "set", 2.0)
    drawn = {"max_tokens": 12, "temperature": 1.0, "ignore_eos": True}

    async def check() -> None:
        single = [await collect(both.vllm, PROMPT, steering, seed=5 + index, **drawn) for index in range(4)]
        unsteered = [collect(both.vllm, PROMPT, None, seed=seed, **drawn) for seed in range(4)]
        together, *_ = await asyncio.gather(collect(both.vllm, PROMPT, steering, n=4, seed=5, **drawn), *unsteered)
        assert [tokens(answer) for answer in together] == [tokens(answer) for (answer,) in single]
        assert len({str(tokens(answer)) for answer in together}) == 4
        plain = await collect(both.vllm, PROMPT, None, n=4, seed=5, **drawn)
        assert [tokens(answer) for answer in plain] != [tokens(answer) for answer in together]
        for answer in together:
            logprobs = [value for chunk in answer for value in chunk.logprobs]
            np.testing.assert_allclose(logprobs, reference_logprobs(both, steering, tokens(answer)), rtol=0, atol=1e-4)

    both.run(check())


def test_greedy_answers_to_one_prompt_are_all_the_same(both: Both) -> None:
    answers = both.run(collect(both.vllm, PROMPT, both.steering(["fr"], "scale", 3.0), n=3, max_tokens=5))
    assert len({str(tokens(answer)) for answer in answers}) == 1
    assert all(answer[-1].finish_reason == "length" for answer in answers)


def test_a_chat_is_answered_and_scored_as_in_the_reference(both: Both) -> None:
    for steering in steerings(both):
        (mine,), (reference,) = (
            both.run(collect(engine, CHAT, steering, max_tokens=8)) for engine in (both.vllm, both.reference)
        )
        assert (tokens(mine), text(mine)) == (tokens(reference), text(reference))
        assert mine[0].prompt_tokens == reference[0].prompt_tokens
        request = ScoreRequest(context=CHAT, continuation="in the end", steering=steering)
        ours, theirs = both.run(both.vllm.score(request)), both.run(both.reference.score(request))
        assert ours.token_ids == theirs.token_ids
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, rtol=0, atol=1e-4)
    with pytest.raises(InvalidRequest, match="no system messages"):
        both.run(collect(both.vllm, (ChatMessage(role="system", content="x"),), None))


def test_a_stop_string_ends_a_steered_answer_as_in_the_reference(both: Both) -> None:
    for steering in steerings(both):
        (whole,) = both.run(collect(both.reference, PROMPT, steering, max_tokens=24, ignore_eos=True))
        stop = text(whole)[6:9]
        (mine,), (reference,) = (
            both.run(collect(engine, PROMPT, steering, max_tokens=24, ignore_eos=True, stop=("never this", stop)))
            for engine in (both.vllm, both.reference)
        )
        assert text(mine) == text(reference) == text(whole)[: text(whole).find(stop)]
        assert tokens(mine) == tokens(reference)
        assert [offset for chunk in mine for offset in chunk.text_offsets] == [
            offset for chunk in reference for offset in chunk.text_offsets
        ]
        assert mine[-1].finish_reason == reference[-1].finish_reason == "stop"


def test_stop_tokens_and_included_stops_end_an_answer_as_in_the_reference(both: Both) -> None:
    async def all_of(engine: Engine, cases: list[dict[str, Any]]) -> list[list[list[Chunk]]]:
        fixed = {"max_tokens": 16, "ignore_eos": True, "repetition_penalty": 3.0}
        answers = (collect(engine, PROMPT, steerings(both)[1], **fixed, **case) for case in cases)
        return await asyncio.gather(*answers)

    ((free,),) = both.run(all_of(both.reference, [{}]))
    ids = tokens(free)
    last = next(index for index in range(5, 12) if ids.index(ids[index]) == index)
    cases: list[dict[str, Any]] = [
        {**stop, "include_stop_str_in_output": include, "min_tokens": count}
        for stop in ({"stop_token_ids": (ids[last],)}, {"stop": (text(free)[6:9],)})
        for include in (False, True)
        for count in (0, last + 3, 16)
    ]
    ours, references = (both.run(all_of(engine, cases)) for engine in (both.vllm, both.reference))
    for case, (mine,), (reference,) in zip(cases, ours, references, strict=True):
        assert tokens(mine) == tokens(reference), case
        assert text(mine) == text(reference), case
        assert mine[-1].finish_reason == reference[-1].finish_reason, case
        assert [offset for chunk in mine for offset in chunk.text_offsets] == [
            offset for chunk in reference for offset in chunk.text_offsets
        ], case
    assert len({(text(mine), len(tokens(mine))) for (mine,) in ours}) >= 5, "the fields have an effect"


def test_a_token_outside_the_vocabulary_is_refused_as_in_the_reference(both: Both) -> None:
    rows = both.reference._model.model.get_input_embeddings().num_embeddings
    for sampling, path in (
        ({"stop_token_ids": (1, rows)}, "stop_token_ids.1"),
        ({"logit_bias": {rows: 1.0}}, f"logit_bias.{rows}"),
        ({"min_tokens": 10_000, "max_tokens": 10_000}, "min_tokens"),
        ({"bad_words": tuple(f"{number:0900}" for number in range(40))}, "bad_words"),
    ):
        for engine in (both.vllm, both.reference):
            with pytest.raises(InvalidRequest) as refused:
                both.run(collect(engine, PROMPT, None, **sampling))
            assert refused.value.param == path


@pytest.mark.filterwarnings("ignore:max_rollback_tokens is deprecated:DeprecationWarning")  # vLLM's call of xgrammar
def test_an_answer_has_the_form_of_its_structured_outputs(both: Both) -> None:
    """Requests with and without a form, steered and not, share a batch."""
    boolean = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema = {**boolean, "additionalProperties": False}
    forms: list[tuple[StructuredOutputs, Callable[[str], bool]]] = [
        (StructuredOutputs(choice=("the end", "in the sea")), ("the end", "in the sea").__contains__),
        (StructuredOutputs(regex="[0-9]{3}-(x|yz)"), lambda answer: bool(re.fullmatch("[0-9]{3}-(x|yz)", answer))),
        (StructuredOutputs(grammar='root ::= "a" [bc] "d"'), ("abd", "acd").__contains__),
        (StructuredOutputs(json=schema), lambda answer: json.loads(answer) in ({"a": True}, {"a": False})),
        (StructuredOutputs(json=json.dumps(boolean)), lambda answer: isinstance(json.loads(answer)["a"], bool)),
        (StructuredOutputs(json_object=True), lambda answer: isinstance(json.loads(answer), dict)),
    ]
    sampled = {"n": 6, "temperature": 1.0, "seed": 3, "max_tokens": 60}
    free_of = partial(collect, both.vllm, PROMPT, steerings(both)[1], max_tokens=12)

    async def check() -> None:
        (alone,) = await free_of()
        (beside,), *answers = await asyncio.gather(
            free_of(),
            *(
                collect(both.vllm, PROMPT, steering, structured_outputs=form, **sampled)
                for form, _ in forms
                for steering in steerings(both)[:2]
            ),
        )
        assert tokens(beside) == tokens(alone)
        for (form, fits), *both_answers in zip(forms, answers[::2], answers[1::2], strict=True):
            drawn = [answer for of_steering in both_answers for answer in of_steering]
            whole = [text(answer) for answer in drawn if answer[-1].finish_reason == "stop"]
            assert whole, form
            assert all(map(fits, whole)), (form, whole)
        assert {text(answer) for answer in answers[0]} != {"the end"}, "the form leaves the choice to the model"

    both.run(check())


@pytest.mark.filterwarnings("ignore:max_rollback_tokens is deprecated:DeprecationWarning")  # vLLM's call of xgrammar
@pytest.mark.parametrize("parse", ["whole", "stream"])
def test_calls_of_tools_are_found_in_an_answer(both: Both, monkeypatch: pytest.MonkeyPatch, parse: ToolParsing) -> None:
    regex = r'No\. <tool_call>\{"name": "now", "arguments": \{"at": [0-9]{2}\}\}</tool_call>'
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    sampling = SamplingParams(structured_outputs=StructuredOutputs(regex=regex), max_tokens=90)
    request = GenerateRequest(prompt=PROMPT, sampling=sampling, tools=(tool,), parse_tools=parse)
    monkeypatch.setattr(both.vllm, "_calls", CallParsers(both.vllm.encoder._tokenizer, "hermes"))

    async def answer() -> list[Chunk]:
        return [chunk async for chunk in both.vllm.generate(request)]

    chunks = both.run(answer())
    assert re.fullmatch(regex, text(chunks))
    parsed = [chunk.parsed for chunk in chunks if chunk.parsed is not None]
    assert len(parsed) == len(chunks)
    assert "".join(each.content for each in parsed).strip() == "No."
    parts = [part for each in parsed for part in each.calls]
    assert [part.name for part in parts if part.name is not None] == ["now"]
    arguments = "".join(part.arguments for part in parts)
    assert json.loads(arguments)["at"] == int(re.findall("[0-9]{2}", text(chunks))[0])
    assert (len(parts) == 1) == (parse == "whole")


@pytest.mark.parametrize(
    "form",
    [{"regex": "(a"}, {"grammar": "root ::= missing"}, {"json": "{"}, {"json": {"type": "integer", "multipleOf": 7}}],
)
def test_an_unsupported_constraint_is_rejected_and_the_engine_goes_on(both: Both, form: dict[str, Any]) -> None:
    for engine in (both.vllm, both.reference):
        with pytest.raises(InvalidRequest) as refused:
            both.run(collect(engine, PROMPT, None, structured_outputs=StructuredOutputs(**form)))
        assert refused.value.param == "structured_outputs"
        assert len(tokens(*both.run(collect(engine, PROMPT, None, max_tokens=3)))) == 3


def test_options_sent_together_share_the_blocks_of_their_context(both: Both) -> None:
    """Four options arrive before any block of their context is cached; each steering computes the context once."""
    context = (
        "in the beginning there was the sea and the wind and the rain and then another day in the sand by the tree"
    )
    requests = [
        ScoreRequest(context=context, continuation=option, steering=steering)
        for steering in steerings(both)[:2]
        for option in (" and the end", " in there", " by the sea", " on the other hand")
    ]

    async def together(engine: Engine) -> list[Score]:
        return await asyncio.gather(*map(engine.score, requests))

    before = both.vllm.stats().cached_tokens
    ours, references = (both.run(together(engine)) for engine in (both.vllm, both.reference))
    for mine, reference in zip(ours, references, strict=True):
        np.testing.assert_allclose(mine.logprobs, reference.logprobs, rtol=0, atol=1e-4)
    shared = (ours[0].context_tokens - 1) // 32 * 32
    assert shared > 0
    assert both.vllm.stats().cached_tokens - before == 2 * 3 * shared


def test_the_prompts_tokens_have_the_log_probabilities_of_the_reference(both: Both) -> None:
    async def parts(engine: Engine) -> list[PromptPart]:
        found = []
        for steering in steerings(both):
            request = GenerateRequest(
                prompt=PROMPT, sampling=SamplingParams(max_tokens=2, n=2), steering=steering, prompt_logprobs=3
            )
            chunks = [chunk async for chunk in engine.generate(request)]
            prompts = [chunk.prompt for chunk in chunks if chunk.prompt is not None]
            assert len(prompts) == 2, "one in the first chunk of each answer"
            assert prompts[0] == prompts[1]
            found.append(prompts[0])
        return found

    mine, reference = both.run(parts(both.vllm)), both.run(parts(both.reference))
    for ours, theirs in zip(mine, reference, strict=True):
        assert ours.text == PROMPT
        assert (ours.token_ids, ours.token_texts, ours.text_offsets) == (
            theirs.token_ids,
            theirs.token_texts,
            theirs.text_offsets,
        )
        assert ours.logprobs[0] is None
        mine_values, their_values = (np.array(part.logprobs[1:], dtype=np.float64) for part in (ours, theirs))
        np.testing.assert_allclose(mine_values, their_values, rtol=0, atol=1e-4)
        for some, others in zip(ours.top_logprobs, theirs.top_logprobs, strict=True):
            assert [token.token_id for token in some] == [token.token_id for token in others]
    assert mine[0].logprobs[1:] != mine[1].logprobs[1:], "the intervention changes the prompt's log-probabilities"
