from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import PromptTooLong, Unavailable
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.metric import TextScore
from jobs.evaluation.rating_store import RatingFile
from jobs.evaluation.relevance import Relevance
from jobs.evaluation.texts import StoredText


class ListedJudge:
    """A judge whose reply depends on the answer; notes what it was asked and how many questions were open at once."""

    def __init__(self, reply: Callable[[str], str], model: str = "listed") -> None:
        self.model = model
        self.rated: list[str] = []
        self.most_at_once = 0
        self._open = 0
        self._reply = reply

    async def reply(self, messages: Sequence[ChatMessage]) -> str:
        answer = messages[0].content.split("<answer>\n")[1].split("\n</answer>")[0]
        self.rated.append(answer)
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            return self._reply(answer)
        finally:
            self._open -= 1


@pytest.fixture
def store(tmp_path: Path) -> RatingFile:
    return RatingFile(tmp_path / "ratings.db")


def texts(answers: Sequence[str]) -> list[StoredText]:
    return [StoredText(text=answer, language="fr", group=(), input="question") for answer in answers]


def score(judge: ListedJudge, store: RatingFile, answers: Sequence[str], **options: Any) -> list[TextScore]:
    metric = Relevance(judge=judge, ratings=store, **options)
    return list(asyncio.run(metric.score(texts(answers)))["relevance"])


def test_the_mean_rating_over_two_with_what_has_none(store: RatingFile) -> None:
    metric = Relevance(judge=ListedJudge(lambda answer: answer), ratings=store)
    values = asyncio.run(evaluate_texts(texts(["2", "1", "0", "perhaps", "2"]), [metric])).groups[()]
    assert values["relevance"] == pytest.approx((2 + 1 + 0 + 2) / 4 / 2)
    assert (values["n"], values["relevance_unparsed"], values["relevance_too_long"]) == (5, 1, 0)
    assert values["judge"] == "listed, prompt 1, temperature 0"
    assert values["note"] == "rests on 4 texts; at least 20 make an interval meaningful"


def test_an_unparsable_reply_is_no_zero(store: RatingFile) -> None:
    (only,) = score(ListedJudge(lambda _: "I cannot say"), store, ["a"])
    assert only == TextScore(None, "no rating in the judge's reply: I cannot say")
    summary = Relevance(judge=ListedJudge(str), ratings=store).summarize(
        texts(["a"]), {"relevance": [only]}, np.random.default_rng(0)
    )
    assert (summary["relevance"], summary["relevance_unparsed"]) == (None, 1)


def test_a_rated_answer_is_not_asked_again(store: RatingFile) -> None:
    judge = ListedJudge(lambda answer: "none" if answer == "odd" else "2")
    first = score(judge, store, ["a", "b", "a", "odd"])
    assert sorted(judge.rated) == ["a", "b", "odd"]  # the same answer once
    judge.rated.clear()
    again = score(judge, store, ["odd", "c", "b", "a"])
    assert judge.rated == ["c"]
    assert [again[0], again[3]] == [first[3], first[0]]
    other = ListedJudge(lambda _: "0", model="other")
    assert score(other, store, ["a"])[0].value == 0.0


def test_what_was_rated_before_an_interruption_is_kept(store: RatingFile) -> None:
    def fails_at(answer: str) -> str:
        if answer == "c":
            raise Unavailable("the judge is gone")
        return "1"

    with pytest.raises(Unavailable, match="the judge is gone"):
        score(ListedJudge(fails_at), store, "abcd", concurrency=1)
    judge = ListedJudge(lambda _: "1")
    assert [rating.value for rating in score(judge, store, "abcd")] == [0.5] * 4
    assert judge.rated == ["c", "d"]


def test_no_more_than_the_given_number_are_asked_at_once(store: RatingFile) -> None:
    judge = ListedJudge(lambda _: "1")
    shown: list[tuple[int, int]] = []
    score(
        judge,
        store,
        [str(number) for number in range(20)],
        concurrency=3,
        on_progress=lambda *counts: shown.append(counts),
    )
    assert judge.most_at_once == 3
    assert (shown[0], shown[-1], len(judge.rated)) == ((0, 20), (20, 20), 20)


def test_an_answer_too_long_for_the_judge_does_not_stop_the_others(store: RatingFile) -> None:
    def refuses(answer: str) -> str:
        if len(answer) > 3:
            raise PromptTooLong("4096 tokens")
        return "2"

    metric = Relevance(judge=ListedJudge(refuses), ratings=store)
    values = asyncio.run(evaluate_texts(texts(["a", "long text"]), [metric])).groups[()]
    assert (values["relevance"], values["relevance_too_long"]) == (1.0, 1)
