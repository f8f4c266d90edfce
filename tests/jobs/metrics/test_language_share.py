from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.language_share import IN_DATA, IN_DATA_SCRIPT, IN_TARGET, IN_TARGET_SCRIPT, LFS
from jobs.statistics.significance import mcnemar

RNG = np.random.default_rng(3)


def identified(languages: list[str | None], target: str | None, *, answers: int = 1) -> pa.Table:
    count = len(languages)
    return pa.table(
        {
            "doc_id": [str(row // answers) for row in range(count)],
            "prediction": pa.array(languages, pa.string()),
            "target_language": pa.array([target] * count, pa.string()),
            "data_language": pa.array(["en"] * count, pa.string()),
        }
    )


def written(texts: list[str], target: str | None, *, data: str = "en") -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "doc_id": [str(row) for row in range(count)],
            "completion": texts,
            "target_language": pa.array([target] * count, pa.string()),
            "data_language": [data] * count,
        }
    )


def test_the_share_in_the_target_language_is_beside_that_of_the_same_unsteered_texts() -> None:
    plain, steered = identified(["en", "fr", None, "en"], None), identified(["fr", "fr", "en", "fr"], "fr")
    for metric in (IN_TARGET, LFS):
        assert metric.evaluate(plain, RNG) is None
        result = metric.compare(steered, plain, RNG)
        assert result is not None
        assert (result.value, result.baseline, result.delta, result.n) == (0.75, 0.25, 0.5, 4)
        assert result.p_value == mcnemar(2, 0)
    evaluated = IN_DATA.evaluate(plain, RNG)
    assert evaluated is not None
    assert evaluated.value == 0.5
    data = IN_DATA.compare(steered, plain, RNG)
    assert data is not None
    assert data.delta == -0.25
    assert IN_TARGET.compare(plain, plain, RNG) is None, "a repeated baseline has no target language"


def test_an_identified_language_is_that_of_a_target_with_a_region() -> None:
    for target in ("fr-CA", "fra_Latn_CA", "fr_419"):
        result = IN_TARGET.compare(identified(["fr", "en"], target), identified(["en", "en"], None), RNG)
        assert result is not None
        assert (result.value, result.baseline) == (0.5, 0.0)


def test_any_of_several_target_languages_counts() -> None:
    steered = identified(["it", "fr", "en"], "fr+it")
    result = IN_TARGET.compare(steered, steered, RNG)
    assert result is not None
    assert result.value == pytest.approx(2 / 3)


def test_without_items_there_is_no_value() -> None:
    none = identified([], "fr")
    result = IN_TARGET.compare(none, none, RNG)
    assert result is not None
    assert result.n == 0


def test_several_answers_of_an_item_are_one_unit() -> None:
    plain = identified(["en"] * 6, None, answers=3)
    steered = identified(["fr", "fr", "fr", "en", "en", "en"], "fr", answers=3)
    result = LFS.compare(steered, plain, RNG)
    assert result is not None
    assert (result.n, result.value, result.baseline) == (2, 0.5, 0.0)
    assert (result.ci_low, result.ci_high) == (0.0, 1.0)
    evaluated = IN_DATA.evaluate(plain, RNG)
    assert evaluated is not None
    assert (evaluated.n, evaluated.value) == (2, 1.0)


def test_script_and_language_are_told_apart() -> None:
    """Turkish in Latin letters is in the script of French; Japanese in Latin letters is not in that of Japanese."""
    plain = written(["The cat sleeps."] * 3, None)
    steered = written(["Kedi uyuyor.", "猫が寝ています。", "neko ga nete imasu"], "ja")
    result = IN_TARGET_SCRIPT.compare(steered, plain, RNG)
    assert result is not None
    assert [result.value, result.baseline] == pytest.approx([1 / 3, 0.0])
    evaluated = IN_DATA_SCRIPT.evaluate(steered, RNG)
    assert evaluated is not None
    assert evaluated.value == pytest.approx(2 / 3)


def test_a_language_whose_script_is_not_known_has_no_share() -> None:
    evaluated = IN_DATA_SCRIPT.evaluate(written(["abc"], None, data="xx"), RNG)
    assert evaluated is not None
    assert (evaluated.value, evaluated.note) == (None, "the script that xx is written in is not known")
