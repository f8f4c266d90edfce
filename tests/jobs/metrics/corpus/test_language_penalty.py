from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu

from ampsweep.errors import InvalidRequest
from jobs.metrics.corpus import language_penalty
from jobs.metrics.corpus.corpus_score import CHRF_PLUS
from jobs.metrics.corpus.language_penalty import CHRF_PLUS_IN_LANGUAGE

RNG = np.random.default_rng(3)
GOLD = [
    "Le chat de Berlin dort sur le canapé depuis ce matin.",
    "La bibliothèque de la ville ferme à huit heures.",
    "Nous avons mangé du pain et du fromage.",
]
RIGHT = "Le chat de Berlin dort depuis ce matin sur le sofa."
COPIED = "The cat of Berlin has been sleeping on the sofa since this morning."
OTHERS = ["La bibliothèque municipale ferme à huit heures.", "Nous avons mangé du fromage avec du pain."]


def samples(first: str, language: str = "fr") -> pa.Table:
    return pa.table({"completion": [first, *OTHERS], "gold": GOLD, "data_language": [language] * 3})


def test_a_segment_in_the_wrong_language_counts_as_an_empty_one() -> None:
    penalized = CHRF_PLUS_IN_LANGUAGE.evaluate(samples(COPIED), RNG)
    assert penalized.value == pytest.approx(sacrebleu.corpus_chrf(["", *OTHERS], [GOLD], word_order=2).score)
    plain = CHRF_PLUS.evaluate(samples(COPIED), RNG)
    assert plain.value is not None
    assert penalized.value is not None
    assert penalized.value < plain.value
    assert penalized.ci_low is not None
    assert penalized.ci_low < penalized.value
    assert "|identifier:py3langid" in (penalized.signature or "")


def test_segments_in_the_right_language_are_scored_as_without_the_penalty() -> None:
    assert CHRF_PLUS_IN_LANGUAGE.evaluate(samples(RIGHT), RNG).value == CHRF_PLUS.evaluate(samples(RIGHT), RNG).value


def test_the_difference_is_one_of_penalized_scores() -> None:
    result = CHRF_PLUS_IN_LANGUAGE.compare(samples(RIGHT), samples(COPIED), RNG)
    scores = [sacrebleu.corpus_chrf([first, *OTHERS], [GOLD], word_order=2).score for first in (RIGHT, "")]
    assert [result.value, result.baseline] == pytest.approx(scores)
    assert result.delta == pytest.approx(scores[0] - scores[1])


def test_without_items_there_is_no_value() -> None:
    assert CHRF_PLUS_IN_LANGUAGE.evaluate(samples(RIGHT).slice(0, 0), RNG).value is None


def test_a_language_that_is_not_identified_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = CHRF_PLUS_IN_LANGUAGE.evaluate(samples(RIGHT, "xx"), RNG)
    assert (unknown.n, unknown.value) == (3, None)
    assert "does not know xx" in (unknown.note or "")

    def missing(_: str) -> None:
        raise InvalidRequest("it needs py3langid")

    monkeypatch.setattr(language_penalty, "open_identifier", missing)
    compared = CHRF_PLUS_IN_LANGUAGE.compare(samples(RIGHT), samples(RIGHT), RNG)
    assert (compared.value, compared.note) == (None, "it needs py3langid")
