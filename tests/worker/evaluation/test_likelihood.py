"""The likelihood of answers under the unsteered model, against the engine's own scores."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ampsweep.errors import EngineFailed
from engine.base import ScoreRequest
from engine.fake import FAKE_INFO, FakeEngine
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.texts import StoredText
from worker.evaluation.likelihood import CONCURRENCY, AnswerLikelihood


def text(answer: str, question: str = "Who?") -> StoredText:
    return StoredText(text=answer, language="fr", group=(), input=question)


def metric(engine: FakeEngine) -> AnswerLikelihood:
    return AnswerLikelihood(engine, on_progress=lambda _done, _total: None)


def test_each_answer_has_its_mean_negative_log_likelihood_after_its_input() -> None:
    engine = FakeEngine()
    texts = [text(f"It was number {number}.") for number in range(CONCURRENCY + 5)]

    async def expected(answer: StoredText) -> float:
        score = await engine.score(ScoreRequest(context="Who?", continuation=answer.text))
        return -float(np.mean(score.logprobs))

    async def check() -> None:
        scores = (await metric(engine).score(texts))["answer_nll"]
        assert [score.value for score in scores] == pytest.approx([await expected(each) for each in texts])
        (values,) = (await evaluate_texts(texts, [metric(engine)])).groups.values()
        assert values["answer_nll"] == pytest.approx(np.mean([score.value for score in scores]))
        assert values["nll_model"] == f"fake {FAKE_INFO.fingerprint[:12]}, fake float32"

    asyncio.run(check())


def test_a_text_that_the_model_cannot_score_has_no_value() -> None:
    too_long = text("long " * 100_000)
    fine, missing = asyncio.run(metric(FakeEngine()).score([text("short"), too_long]))["answer_nll"]
    assert fine.value is not None
    assert missing.value is None
    assert "tokens" in (missing.detail or "")


def test_an_engine_that_dies_ends_the_evaluation() -> None:
    with pytest.raises(EngineFailed):
        asyncio.run(metric(FakeEngine(fail_on="boom")).score([text("boom")]))
