"""The likelihood of answers under the unsteered model: could it have written a steered text itself?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import ClassVar

import numpy as np

from ampsweep.concurrency import in_window
from ampsweep.errors import InvalidRequest
from engine.base import Engine, Priority, ScoreRequest
from jobs.evaluation.metric import Scores, TextScore, Values, mean_with_interval, note_on
from jobs.evaluation.texts import StoredText

CONCURRENCY = 256
"""Maximum number of texts that are scored at once."""


class AnswerLikelihood:
    """Mean negative log-likelihood of an answer's tokens after its input, in nats: the logarithm of its perplexity.

    The engine scores without an intervention and without a chat template. Low values do not mean that a text is good:
    repetitions are likely.

    Args:
        engine: The engine of the model, which the caller closes.
        on_progress: Called with the number of scored texts and of all texts.
    """

    name: ClassVar[str] = "answer_nll"
    needs: ClassVar[frozenset[str]] = frozenset({"input"})

    def __init__(self, engine: Engine, *, on_progress: Callable[[int, int], None]) -> None:
        self._engine = engine
        self._on_progress = on_progress

    @property
    def identity(self) -> str:
        """The model with its fingerprint, and the engine with its dtype."""
        info = self._engine.info
        return f"{info.model} {info.fingerprint[:12]}, {info.kind} {info.dtype}"

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `answer_nll` of each text; undefined, with the reason, for one that the model cannot score.

        Raises:
            EngineFailed: The engine died.
        """
        scored = count(1)

        async def score(text: StoredText) -> TextScore:
            text_score = await self._score(text)
            self._on_progress(next(scored), len(texts))
            return text_score

        return {self.name: await in_window(texts, score, window=asyncio.Semaphore(CONCURRENCY))}

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `answer_nll`, the mean over the texts, and `nll_model`."""
        column = scores[self.name]
        values = mean_with_interval(self.name, texts, column, rng)
        return {**values, "nll_model": self.identity, "note": note_on(texts, column)}

    async def _score(self, text: StoredText) -> TextScore:
        request = ScoreRequest(context=text.input or "", continuation=text.text, priority=Priority.BATCH)
        try:
            score = await self._engine.score(request)
        except InvalidRequest as error:  # too long, or without tokens
            return TextScore(None, error.message)
        return TextScore(-sum(score.logprobs) / len(score.logprobs))
