from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.metric import Scores, TextScore, Values, mean_with_interval, note_on
from jobs.evaluation.texts import StoredText


@dataclass(frozen=True)
class Listed:
    """A metric whose scores are given."""

    name: str
    values: tuple[float | None, ...]
    note: str | None = None
    identity: ClassVar[str] = "a list"
    needs: ClassVar[frozenset[str]] = frozenset()

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        return {self.name: [TextScore(value) for value in self.values]}

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        return {**mean_with_interval(self.name, texts, scores[self.name], rng), "note": self.note}


def groups(*metrics: Listed, names: str) -> Any:
    texts = [StoredText(text=name, language="fr", group=(name,)) for name in names]
    return asyncio.run(evaluate_texts(texts, metrics)).groups


def test_each_group_has_the_scores_of_its_own_texts() -> None:
    values = groups(Listed("lfs", (1.0, 0.0, 0.0, None)), names="abab")
    assert list(values) == [("a",), ("b",)]
    assert [(group["n"], group["lfs"]) for group in values.values()] == [(2, 0.5), (2, 0.0)]


def test_several_answers_to_a_prompt_are_one_unit_of_the_interval() -> None:
    keys = [
        {"file": "a", "row": row, "cell_id": "c", "doc_id": str(row // 10), "answer": row % 10} for row in range(20)
    ]
    texts = [StoredText(text="x", language="fr", group=(), key=key) for key in keys]
    metric = Listed("m", (1.0,) * 10 + (0.0,) * 10)
    values = asyncio.run(evaluate_texts(texts, [metric])).groups[()]
    assert (values["m"], values["m_ci"]) == (0.5, [0.0, 1.0])
    single = [StoredText(text="x", language="fr", group=(), key={"file": "a", "row": row}) for row in range(20)]
    low, high = asyncio.run(evaluate_texts(single, [metric])).groups[()]["m_ci"]
    assert 0.2 < low < high < 0.8


def test_a_note_counts_what_the_interval_resamples() -> None:
    def texts(prompts: int, answers: int | None) -> list[StoredText]:
        keys = [
            {"file": "a", "cell_id": "c", "doc_id": str(prompt), "answer": answer if answers else None}
            for prompt in range(prompts)
            for answer in range(answers or 1)
        ]
        return [StoredText(text="x", language="fr", group=(), key=key) for key in keys]

    def column(count: int, scored: int) -> list[TextScore]:
        return [TextScore(1.0 if number < scored else None) for number in range(count)]

    assert note_on(texts(20, None), column(20, 20)) is None
    assert note_on(texts(2, 10), column(20, 20)) == "rests on 2 prompts; at least 20 make an interval meaningful"
    assert note_on(texts(20, 2), column(40, 40)) is None
    some = note_on(texts(30, None), column(30, 30), column(30, 4), column(30, 0))
    assert some == "rests on 4 texts; at least 20 make an interval meaningful"
    assert note_on(texts(2, None), column(2, 0)) == "no text could be evaluated"


def test_the_steering_score_is_the_harmonic_mean_of_the_groups_values() -> None:
    values = groups(Listed("lfs", (1.0, 0.0)), Listed("relevance", (1.0, 1.0)), names="aa")
    assert values[("a",)]["steering_score"] == pytest.approx(2 / 3)  # not 0.5, the mean over the texts
    assert "steering_score" not in groups(Listed("lfs", (1.0,)), names="a")[("a",)]
    unrated = groups(Listed("lfs", (1.0,)), Listed("relevance", (None,)), names="a")[("a",)]
    assert unrated["relevance"] is None
    assert "steering_score" not in unrated


def test_notes_are_joined_each_once() -> None:
    metrics = [Listed("x", (1.0,), "few"), Listed("y", (1.0,)), Listed("z", (1.0,), "few"), Listed("v", (1.0,), "odd")]
    assert groups(*metrics, names="a")[("a",)]["note"] == "few; odd"
