from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http.client import IncompleteRead
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from jobs.metrics.corpus.corpus_metrics import Bleu, ChrfPlus, CorpusMetric, counts_of
from jobs.metrics.corpus.corpus_score import BLEU_13A, CHRF_PLUS, CorpusScore
from jobs.statistics import bootstrap

RNG = np.random.default_rng(7)
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "."]
GOLD = [" ".join(RNG.choice(WORDS, 12)) for _ in range(40)]


def damaged(share: float) -> list[str]:
    return [" ".join(word for word in line.split() if RNG.random() > share) or "-" for line in GOLD]


PLAIN, STEERED = damaged(0.4), damaged(0.3)


def samples(lines: list[str]) -> pa.Table:
    return pa.table({"completion": lines, "gold": GOLD[: len(lines)]})


@pytest.mark.parametrize(
    ("metric", "theirs"), [(BLEU_13A, BLEU(force=True)), (CHRF_PLUS, CHRF(word_order=2))], ids=["bleu", "chrf"]
)
def test_values_intervals_and_p_values_are_those_of_sacrebleu(metric: CorpusScore, theirs: Any) -> None:
    result = metric.compare(samples(STEERED), samples(PLAIN), np.random.default_rng(0))
    assert result.value == pytest.approx(theirs.corpus_score(STEERED, [GOLD]).score)
    assert result.baseline == pytest.approx(theirs.corpus_score(PLAIN, [GOLD]).score)
    signatures, results = PairedTest([("plain", PLAIN), ("steered", STEERED)], {"m": theirs}, [GOLD], "bs")()
    (name,) = signatures
    baseline, steered = results[name]
    assert not isinstance(baseline, str)
    assert not isinstance(steered, str)
    assert result.p_value == pytest.approx(steered.p_value)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert (result.ci_high - result.ci_low) / 2 == pytest.approx(steered.ci, rel=0.02)
    assert result.delta_ci_low is not None
    assert result.delta_ci_high is not None
    assert result.delta == pytest.approx(steered.score - baseline.score)
    assert result.delta_ci_low < steered.score - baseline.score < result.delta_ci_high
    assert result.signature == str(signatures[name])


def test_resamples_are_drawn_in_batches_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = BLEU_13A.compare(samples(STEERED), samples(PLAIN), np.random.default_rng(0))
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 40 * 24)
    again = CorpusScore("bleu_13a", partial(Bleu, "13a"))  # without the scores that BLEU_13A has kept
    assert again.compare(samples(STEERED), samples(PLAIN), np.random.default_rng(0)) == at_once


@pytest.mark.parametrize(
    ("steered", "plain", "p_value"), [(STEERED, STEERED, 1.0), (GOLD, ["-"] * 40, None)], ids=["the same", "all alike"]
)
def test_resamples_that_do_not_differ_are_no_evidence(
    steered: list[str], plain: list[str], p_value: float | None
) -> None:
    """Sacrebleu gives both the smallest p-value there is, 1/1001."""
    result = CHRF_PLUS.compare(samples(steered), samples(plain), np.random.default_rng(0))
    assert result.p_value == p_value
    assert result.delta_ci_low == pytest.approx(result.delta_ci_high)


class Counting(ChrfPlus):
    """ChrF++ that lists the texts whose n-grams it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    def counts(self, written: str, gold: str) -> Sequence[float]:
        self.counted.append(written)
        return super().counts(written, gold)


def test_the_baseline_of_several_cells_is_scored_once() -> None:
    counting = Counting()
    metric = CorpusScore("chrf++", lambda: counting)
    metric.evaluate(samples(PLAIN), RNG)
    for steered in (STEERED, GOLD):
        metric.compare(samples(steered), samples(PLAIN), RNG)
    assert counting.counted == PLAIN + STEERED + GOLD


def test_without_items_there_is_no_value() -> None:
    result = BLEU_13A.compare(samples([]), samples([]), np.random.default_rng(0))
    assert (result.n, result.value, result.note) == (0, None, None)


class Unreachable:
    """A tokenizer's model that cannot be fetched `failures` times."""

    def __init__(self, error: BaseException, failures: int) -> None:
        self.error, self.failures = error, failures

    def __call__(self) -> Bleu:
        self.failures -= 1
        if self.failures >= 0:
            raise self.error
        return Bleu("13a")


@pytest.mark.parametrize(
    "error",
    [OSError("no route to host"), IncompleteRead(b"no route to host"), RuntimeError("no route to host"), SystemExit(1)],
)
def test_an_unavailable_tokenizer_gives_a_note_instead_of_a_value(error: BaseException) -> None:
    metric = CorpusScore("bleu_far", Unreachable(error, failures=2))
    for result in (metric.evaluate(samples(PLAIN), RNG), metric.compare(samples(STEERED), samples(PLAIN), RNG)):
        assert (result.n, result.value, result.delta) == (40, None, None)
        assert result.note is not None
        assert "bleu_far" in result.note
        assert str(error) in result.note
    assert metric.evaluate(samples(PLAIN), RNG).value is not None, "it is tried again, and was there the third time"


ODD = [
    "",
    "a",
    "!",
    "(hi) there,",
    "ね。 すごい",
    "x  y\u00a0z",
    "...",
    "word",
    "ab ab ab ab ab",
    "don't stop-now 'quoted'",
]


@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        (Bleu("13a"), BLEU(force=True)),
        (Bleu("char"), BLEU(tokenize="char", force=True)),
        (ChrfPlus(), CHRF(word_order=2)),
    ],
    ids=["bleu", "bleu of characters", "chrf"],
)
def test_the_score_of_added_counts_is_sacrebleus(metric: CorpusMetric, theirs: Any) -> None:
    rng = np.random.default_rng(3)
    corpora = [(STEERED, GOLD), (GOLD, GOLD), (ODD, list(reversed(ODD))), ([""], ["a"]), (["b c"], ["a"])]
    for _ in range(20):
        drawn = rng.choice(len(ODD), size=(2, 5))
        corpora.append(([ODD[index] for index in drawn[0]], [ODD[index] for index in drawn[1]]))
    for written, gold in corpora:
        counts = counts_of(metric, written, gold)
        assert metric.score(counts.sum(axis=0)) == theirs.corpus_score(written, [gold]).score
