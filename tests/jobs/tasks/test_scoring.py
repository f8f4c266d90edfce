"""What a sample keeps of the answers to an item."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from jobs.tasks.base import Item
from jobs.tasks.requests import Answer, GenerateCall, ScoreCall
from jobs.tasks.scoring import MAX_CONTEXT, NO_NUMBERS, choose_likeliest, failed_sample, scored_sample

CALL = GenerateCall(prompt="Bonjour", max_tokens=8)
THREE = Answer(token_ids=(1, 2, 3), logprobs=(-1.0, -2.0, -3.0), prompt_tokens=4, text="a b c")
ITEM = Item(doc_id="7", calls=(), answer=2)


def test_the_tokens_of_all_calls_follow_each_other() -> None:
    sample = scored_sample(Item(doc_id="7", calls=(CALL, CALL)), [THREE, replace(THREE, logprobs=(-4.0,))], score=1.0)
    assert (sample.logprobs, sample.call_tokens) == ((-1.0, -2.0, -3.0, -4.0), (3, 1))
    assert (sample.prompt_tokens, sample.completion_tokens, sample.score) == (8, 4, 1.0)


def test_steered_spans_are_counted_over_the_tokens_of_all_calls() -> None:
    item = Item(doc_id="7", calls=(CALL,))
    assert scored_sample(item, [THREE]).steered_spans is None
    assert scored_sample(item, [replace(THREE, steered_spans=())]).steered_spans == ()
    two = [replace(THREE, steered_spans=((0, 1), (2, 3))), replace(THREE, steered_spans=((1, 3),))]
    sample = scored_sample(Item(doc_id="7", calls=(CALL, CALL)), two)
    assert sample.steered_spans == ((0, 1), (2, 3), (4, 6))
    failed = failed_sample(item, [Answer(error="too long")])
    assert failed is not None
    assert (failed.error, failed.steered_spans) == ("too long", None)


def answer(*logprobs: float) -> Answer:
    return Answer(token_ids=tuple(range(len(logprobs))), logprobs=logprobs)


def test_the_option_with_the_largest_sum_is_predicted() -> None:
    sample = choose_likeliest(ITEM, [answer(-1.0, -2.0), answer(-2.5), answer(-inf)], label=0)
    assert (sample.prediction, sample.gold, sample.correct, sample.score) == ("1", "0", False, -2.5)
    assert (sample.logprobs, sample.call_tokens) == ((-1.0, -2.0, -2.5, -inf), (2, 1, 1))


def test_an_answer_without_numbers_fails_its_sample() -> None:
    sample = choose_likeliest(ITEM, [answer(nan, -1.0), answer(-1.0)], label=0)
    assert (sample.doc_id, sample.answer, sample.error, sample.prediction) == ("7", 2, NO_NUMBERS, None)


def test_a_failed_answer_fails_its_sample() -> None:
    errors = [Answer(error="too long"), Answer()]
    samples = [failed_sample(ITEM, [answer(-1.0), error]) for error in errors]
    assert [sample and sample.error for sample in samples] == ["too long", "the engine returned no tokens"]
    assert failed_sample(ITEM, [answer(-1.0)]) is None


@pytest.mark.parametrize(
    ("texts", "meta", "shown"),
    [
        (
            [("It fell because", " of wind"), ("It fell because", " of rain")],
            {},
            "It fell because\n0: of wind\n1: of rain",
        ),
        ([("The cat", " slept."), ("The dog", " slept.")], {}, "0: The cat slept.\n1: The dog slept."),
        ([("Egypt: ", "livre"), ("Egypt: ", "pound")], {"labels": ("fr", "en")}, "Egypt: \nfr: livre\nen: pound"),
        ([("", "A sentence.")], {}, "A sentence."),
    ],
)
def test_a_sample_has_the_question_and_the_options_that_were_scored(
    texts: list[tuple[str, str]], meta: dict[str, Any], shown: str
) -> None:
    calls = tuple(ScoreCall(context=context, continuation=continuation) for context, continuation in texts)
    assert scored_sample(Item(doc_id="7", calls=calls, meta=meta), [THREE] * len(calls)).input == shown
    chats = tuple(
        ScoreCall(context=(ChatMessage(role="user", content=context),), continuation=continuation)
        for context, continuation in texts
    )
    assert scored_sample(Item(doc_id="7", calls=chats, meta=meta), [THREE] * len(calls)).input == shown


def test_of_the_examples_before_a_question_the_end_is_kept() -> None:
    calls = tuple(ScoreCall(context=f"{'Q? A. ' * 1000}How many?", continuation=f" {name}") for name in "AB")
    shown = scored_sample(Item(doc_id="7", calls=calls), [THREE] * 2).input
    assert shown is not None
    assert shown.startswith("…")
    assert shown.endswith("Q? A. How many?\n0: A\n1: B")
    assert len(shown) == 1 + MAX_CONTEXT + len("\n0: A\n1: B")
