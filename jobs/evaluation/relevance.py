"""Relevance: the mean rating of answers by a judge model, divided by the best rating."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np

from ampsweep.concurrency import in_window
from ampsweep.errors import PromptTooLong
from jobs.evaluation.judge import (
    MAX_SCORE,
    Judge,
    Rating,
    judge_identity,
    judge_messages,
    parse_rating,
    rating_key,
)
from jobs.evaluation.metric import Scores, TextScore, Values, mean_with_interval, note_on
from jobs.evaluation.rating_store import RatingStore
from jobs.evaluation.texts import StoredText

CONCURRENCY = 16
"""Answers that a judge is asked about at once."""
TOO_LONG = "too long for the judge: "
UNPARSED = "no rating in the judge's reply: "
_DETAIL_CHARACTERS = 500


def _show_nothing(_done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """How relevant answers are to their questions, as a judge rates them: 0, 1 or 2, divided by 2.

    Ratings are stored as they arrive. An evaluation that is interrupted, or repeated over old and new answers, asks
    only about answers that the same judge has not rated yet. A reply without a rating is stored too, because the judge
    is asked with temperature 0; such answers have no score and are counted in `relevance_unparsed`.

    Attributes:
        judge: The judge.
        ratings: The stored ratings.
        concurrency: Answers that the judge is asked about at once.
        on_progress: Called with the number of answers rated and of all answers.
    """

    judge: Judge
    ratings: RatingStore
    concurrency: int = CONCURRENCY
    on_progress: Callable[[int, int], None] = _show_nothing
    name: ClassVar[str] = "relevance"
    needs: ClassVar[frozenset[str]] = frozenset({"input"})

    @property
    def identity(self) -> str:
        """Model, version of the prompt, temperature."""
        return judge_identity(self.judge)

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `relevance`: 0, 0.5 or 1, with the judge's reply; undefined without a rating.

        Raises:
            Unavailable: The judge cannot be reached. What it has rated so far is stored.
        """
        keys = [rating_key(self.judge, text.input or "", text.text) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        stored = await asyncio.to_thread(self.ratings.get, list(by_key))
        rest = {key: text for key, text in by_key.items() if key not in stored}
        scores = {key: _score(rating) for key, rating in stored.items()}
        scores |= await self._ask(rest, done=len(stored), total=len(by_key))
        return {"relevance": [scores[key] for key in keys]}

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `relevance`, and how many answers have no score: `relevance_unparsed`, `relevance_too_long`."""
        column = scores["relevance"]
        return {
            **mean_with_interval("relevance", texts, column, rng, is_share=True),
            "relevance_unparsed": _count(column, UNPARSED),
            "relevance_too_long": _count(column, TOO_LONG),
            "judge": self.identity,
            "note": note_on(texts, column),
        }

    async def _ask(self, texts: Mapping[str, StoredText], *, done: int, total: int) -> dict[str, TextScore]:
        """Ask about the texts, `concurrency` at once."""
        rated = count(done + 1)

        async def rate(entry: tuple[str, StoredText]) -> tuple[str, TextScore]:
            key, text = entry
            score = await self._rate(key, text)
            self.on_progress(next(rated), total)
            return key, score

        self.on_progress(done, total)
        return dict(await in_window(texts.items(), rate, window=asyncio.Semaphore(self.concurrency)))

    async def _rate(self, key: str, text: StoredText) -> TextScore:
        try:
            reply = await self.judge.reply(judge_messages(text.input or "", text.text))
        except PromptTooLong as error:
            return TextScore(None, TOO_LONG + error.message)
        rating = parse_rating(reply)
        await asyncio.to_thread(self.ratings.put, self.identity, {key: rating})
        return _score(rating)


def _score(rating: Rating) -> TextScore:
    reply = rating.reply[:_DETAIL_CHARACTERS]
    if rating.score is None:
        return TextScore(None, UNPARSED + reply)
    return TextScore(rating.score / MAX_SCORE, reply)


def _count(scores: Sequence[TextScore], reason: str) -> int:
    return sum((score.detail or "").startswith(reason) for score in scores if score.value is None)
