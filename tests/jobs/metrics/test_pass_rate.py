from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ampsweep.errors import InvalidRequest
from jobs.language_control.identifiers import open_identifier
from jobs.language_control.language_confusion import english_words_by_language
from jobs.metrics import pass_rate
from jobs.metrics.pass_rate import (
    ENGLISH_WORDS,
    IDENTIFIER,
    IN_TARGET_BY_LINE,
    LCPR,
    LPR,
    NO_WORD_LIST,
    TARGET_LPR,
    TARGET_WPR,
    WPR,
)
from jobs.statistics.wilson import wilson
from tests.jobs.evaluation.evaluated import evaluated

FRENCH = "Le chat dort sur le canapé depuis ce matin."
ENGLISH = "The cat has been sleeping on the sofa since this morning."
RUSSIAN = "Кошка с утра спит на старом диване."
RUSSIAN_AND_ENGLISH = "Кошка с утра спит на старом диване sofa."
MIXED = f"{FRENCH}\n{ENGLISH}"
SHORT = "Oui."
WORDS = frozenset({"sofa"})


def samples(
    *answers: str,
    data: str = "en",
    target: str | None = None,
    words: frozenset[str] | None = None,
    ids: Sequence[str] | None = None,
) -> pa.Table:
    measures = [
        None if words is None else json.dumps({ENGLISH_WORDS: english_words_by_language(answer, words)})
        for answer in answers
    ]
    return pa.table(
        {
            "doc_id": list(ids or [f"okapi/{number}" for number in range(len(answers))]),
            "completion": list(answers),
            "data_language": pa.array([data] * len(answers), pa.string()),
            "target_language": pa.array([target] * len(answers), pa.string()),
            "measures": pa.array(measures, pa.string()),
        }
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_all_lines_must_be_in_the_language() -> None:
    result = LPR.evaluate(samples(ENGLISH, ENGLISH, MIXED, FRENCH, SHORT), rng())
    assert result is not None
    assert (result.n, result.value, result.note) == (4, 0.5, None)
    assert result.signature == "lid.176.ftz sha256:8f3472cfe873"


def test_an_unsteered_cell_has_no_target() -> None:
    assert TARGET_LPR.evaluate(samples(ENGLISH), rng()) is None


def test_both_sides_have_the_rate_of_their_own_answers() -> None:
    steered = samples(FRENCH, FRENCH, ENGLISH, SHORT, FRENCH, target="fr")
    baseline = samples(ENGLISH, FRENCH, ENGLISH, ENGLISH, SHORT)
    target = TARGET_LPR.compare(steered, baseline, rng())
    assert target is not None
    assert (target.n, target.value, target.baseline, target.delta) == (4, 0.75, 0.25, 0.5)
    data = LPR.compare(steered, baseline, rng())
    assert data is not None
    assert (data.value, data.baseline) == (0.25, 0.75)


def test_any_of_several_target_languages_counts() -> None:
    result = TARGET_LPR.compare(samples(FRENCH, ENGLISH, target="fr+en"), samples(ENGLISH, ENGLISH), rng())
    assert result is not None
    assert result.value == 1.0


def test_answers_without_a_long_line_give_no_rate() -> None:
    result = LPR.evaluate(samples(SHORT, ""), rng())
    assert result is not None
    assert (result.n, result.value, result.note) == (0, None, "no answer has a line of at least 5 words")


def test_words_count_where_lines_pass() -> None:
    table = samples(RUSSIAN, RUSSIAN_AND_ENGLISH, ENGLISH, RUSSIAN, data="ru", words=WORDS)
    lines, words, both = (metric.evaluate(table, rng()) for metric in (LPR, WPR, LCPR))
    assert lines is not None
    assert words is not None
    assert both is not None
    assert (lines.n, lines.value) == (4, 0.75)
    assert [words.n, words.value] == pytest.approx([3, 2 / 3])
    assert [both.n, both.value] == pytest.approx([4, 2 * 0.75 * (2 / 3) / (0.75 + 2 / 3)])


def test_rates_equal_those_of_an_evaluation_of_the_stored_answers() -> None:
    answers = [RUSSIAN, RUSSIAN_AND_ENGLISH, ENGLISH, MIXED, "", RUSSIAN]
    table = samples(*answers, data="ru", words=WORDS)
    identifier = open_identifier(IDENTIFIER)
    values = evaluated(answers, "ru", "language_confusion", identifier=identifier, english_words=WORDS)
    for metric in (LPR, WPR, LCPR):
        result = metric.evaluate(table, rng())
        assert result is not None
        assert result.value == pytest.approx(values[metric.name], abs=1e-12)


def test_without_a_list_of_words_there_is_no_word_pass_rate() -> None:
    result = WPR.evaluate(samples(RUSSIAN, data="ru"), rng())
    assert result is not None
    assert (result.value, result.note) == (None, NO_WORD_LIST)


def test_no_word_pass_rate_for_a_language_in_latin_script() -> None:
    assert WPR.evaluate(samples(FRENCH, data="fr", words=WORDS), rng()) is None
    steered = samples(FRENCH, target="fr", words=WORDS)
    assert TARGET_WPR.compare(steered, samples(ENGLISH, words=WORDS), rng()) is None


def test_no_answer_that_passes_by_lines_has_no_word_pass_rate() -> None:
    result = WPR.evaluate(samples(ENGLISH, data="ru", words=WORDS), rng())
    assert result is not None
    assert (result.value, result.note) == (None, "no answer has all of its lines in the language")
    steered, plain = samples(RUSSIAN, target="ru", words=WORDS), samples(ENGLISH, words=WORDS)
    compared = TARGET_WPR.compare(steered, plain, rng())
    assert compared is not None
    assert (compared.value, compared.baseline, compared.delta) == (1.0, None, None)


def test_several_answers_of_an_item_are_one_unit() -> None:
    ids = ["okapi/0"] * 10 + ["okapi/1"] * 10
    result = LPR.evaluate(samples(*([ENGLISH] * 10 + [FRENCH] * 9 + [SHORT]), ids=ids), rng())
    assert result is not None
    assert [result.n, result.value] == pytest.approx([2, 10 / 19])
    assert (result.ci_low, result.ci_high) == (0.0, 1.0), "either item alone gives one bound"


def test_intervals_are_wilsons_for_one_answer_to_each_item_and_at_the_bounds() -> None:
    single = LPR.evaluate(samples(ENGLISH, ENGLISH, FRENCH, SHORT), rng())
    assert single is not None
    assert (single.ci_low, single.ci_high) == pytest.approx(wilson(2 / 3, 3)), "SHORT does not count"
    several = LPR.evaluate(samples(*[ENGLISH] * 6, ids=["okapi/0"] * 3 + ["okapi/1"] * 3), rng())
    mean_of_two = LCPR.evaluate(samples(RUSSIAN, RUSSIAN, data="ru", words=WORDS), rng())
    for result in (several, mean_of_two):
        assert result is not None
        assert (result.value, result.ci_low, result.ci_high) == (1.0, *wilson(1.0, 2))


def test_rates_by_source() -> None:
    table = samples(ENGLISH, FRENCH, ENGLISH, ids=["aya/0", "okapi/0", "okapi/1"])
    metrics = LPR.by_source(table)
    assert [metric.name for metric in metrics] == ["lpr,aya", "lpr,okapi"]
    results = [metric.evaluate(table, rng()) for metric in metrics]
    assert [(result.n, result.value) for result in results if result is not None] == [(1, 1.0), (2, 0.5)]
    assert LPR.by_source(samples(ENGLISH, FRENCH)) == ()


def test_what_cannot_be_identified_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = LPR.evaluate(samples(ENGLISH, data="xx"), rng())
    assert unknown is not None
    assert unknown.value is None
    assert "does not know xx" in (unknown.note or "")

    def missing(_: str) -> None:
        raise InvalidRequest("it needs fasttext-predict")

    monkeypatch.setattr(pass_rate, "open_identifier", missing)
    result = IN_TARGET_BY_LINE.compare(samples(FRENCH, target="fr"), samples(ENGLISH), rng())
    assert result is not None
    assert (result.value, result.note) == (None, "it needs fasttext-predict")
