from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from jobs.metrics.corpus_score import BLEU_13A, CHRF_PLUS, CorpusScore

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
def test_everything_is_what_sacrebleu_says(metric: CorpusScore, theirs: Any) -> None:
    verdict = metric.against(samples(STEERED), samples(PLAIN), np.random.default_rng(0))
    assert verdict.value == pytest.approx(theirs.corpus_score(STEERED, [GOLD]).score)
    assert verdict.baseline == pytest.approx(theirs.corpus_score(PLAIN, [GOLD]).score)
    signatures, results = PairedTest([("plain", PLAIN), ("steered", STEERED)], {"m": theirs}, [GOLD], "bs")()
    (name,) = signatures
    baseline, steered = results[name]
    assert not isinstance(baseline, str)
    assert not isinstance(steered, str)
    assert verdict.p_value == pytest.approx(steered.p_value)
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    assert (verdict.ci_high - verdict.ci_low) / 2 == pytest.approx(steered.ci, rel=0.02)
    assert verdict.delta_ci_low is not None
    assert verdict.delta_ci_high is not None
    assert verdict.delta == pytest.approx(steered.score - baseline.score)
    assert verdict.delta_ci_low < steered.score - baseline.score < verdict.delta_ci_high
    assert verdict.signature == metric.signature == str(signatures[name])


def test_without_items_there_is_no_value() -> None:
    verdict = BLEU_13A.against(samples([]), samples([]), np.random.default_rng(0))
    assert (verdict.n, verdict.value, verdict.note) == (0, None, None)


def test_a_tokenizer_that_cannot_be_had_leaves_a_note_and_no_value() -> None:
    def unreachable() -> Any:
        raise OSError("no route to host")

    metric = CorpusScore("bleu_far", unreachable)
    for verdict in (metric.alone(samples(PLAIN), RNG), metric.against(samples(STEERED), samples(PLAIN), RNG)):
        assert (verdict.n, verdict.value, verdict.delta) == (40, None, None)
        assert verdict.note is not None
        assert "bleu_far" in verdict.note
        assert "no route to host" in verdict.note
