from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.language_metrics import LANGUAGE_METRICS, Script, harmonic_mean
from jobs.evaluation.metric import Scores
from jobs.evaluation.texts import StoredText
from jobs.language_control.identifiers import open_identifier

FRENCH = "Le chat dort sur le canapé depuis ce matin."
ENGLISH = "The cat has been sleeping on the sofa since this morning."
RUSSIAN = "Кошка с утра спит на старом диване."
FASTTEXT = open_identifier("lid.176.ftz")


def text(content: str, language: str, *group: str) -> StoredText:
    return StoredText(text=content, language=language, group=group)


def groups(texts: Sequence[StoredText], *names: str, words: frozenset[str] | None = None) -> Any:
    metrics = [LANGUAGE_METRICS[name](FASTTEXT, words) for name in names]
    return asyncio.run(evaluate_texts(texts, metrics)).groups


def test_pass_rates_by_group() -> None:
    texts = [text(FRENCH, "fr", "a"), text(ENGLISH, "fr", "a"), text("court", "fr", "a"), text(RUSSIAN, "ru", "b")]
    values = groups(texts, "language_confusion", words=frozenset({"sofa"}))
    assert list(values) == [("a",), ("b",)]
    french, russian = values.values()
    assert (french["n"], french["counted"], french["lpr"], french["wpr"], french["lcpr"]) == (3, 2, 0.5, None, None)
    assert (russian["lpr"], russian["wpr"], russian["lcpr"]) == (1.0, 1.0, 1.0)
    assert french["lpr_ci"][0] <= 0.5 <= french["lpr_ci"][1]
    assert french["note"] == "rests on 2 texts; at least 20 make an interval meaningful"
    assert (french["identifier"], french["tokenizers"]) == (FASTTEXT.identity, {"fr": "white space"})


def test_a_share_of_1_has_wilsons_interval() -> None:
    (values,) = groups([text(FRENCH, "fr")] * 16, "lfs", "script", "language_confusion").values()
    for name in ("lfs", "script", "lpr"):
        assert values[name] == 1.0
        assert values[f"{name}_ci"] == [pytest.approx(0.806, abs=1e-3), 1.0]


def test_nothing_to_count_is_no_rate() -> None:
    (values,) = groups([text("court", "fr")], "language_confusion").values()
    assert (values["n"], values["counted"], values["lpr"], values["lpr_ci"]) == (1, 0, None, None)
    assert values["note"] == "no text could be evaluated"


def test_language_and_script_are_told_apart() -> None:
    texts = [text(FRENCH, "fr"), text(ENGLISH, "fr"), text(RUSSIAN, "fr"), text("", "fr")]
    (values,) = groups(texts, "lfs", "script").values()
    assert (values["lfs"], values["script"], values["n"]) == (0.25, 0.5, 4)


def test_a_region_is_no_other_language() -> None:
    texts = [text(FRENCH, "fr-CA"), text(ENGLISH, "fr_CA")]
    (values,) = groups(texts, "lfs", "script", "language_confusion").values()
    assert (values["lfs"], values["script"], values["lpr"]) == (0.5, 1.0, 0.5)


def test_a_text_without_letters_is_in_no_language() -> None:
    assert FASTTEXT.identify("123 !!!").language == "en"
    (values,) = groups([text("123 !!!", "en"), text(ENGLISH, "en")], "lfs").values()
    assert values["lfs"] == 0.5


def test_scores_name_what_they_rest_on() -> None:
    texts = [text(FRENCH, "fr"), text(f"{ENGLISH}\n{FRENCH}", "fr"), text("court", "fr")]
    metrics = [LANGUAGE_METRICS[name](FASTTEXT, None) for name in ("language_confusion", "lfs")]
    confusion, forcing = asyncio.run(evaluate_texts(texts, metrics)).scores
    assert [(score.value, score.detail) for score in confusion["lpr"]] == [
        (1.0, "0 of 1 lines wrong"),
        (0.0, "1 of 2 lines wrong"),
        (None, "no line that counts"),
    ]
    assert forcing["lfs"][0].detail == "fr"


def test_equal_texts_give_equal_intervals() -> None:
    texts = [text(FRENCH, "fr"), text(ENGLISH, "fr")] * 20
    first, second = (groups(texts, "lfs", "script") for _ in range(2))
    assert first == second
    assert first[()]["note"] is None


def test_a_language_that_the_identifier_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"does not know xx"):
        groups([text("a", "xx")], "lfs")


def test_a_language_that_is_not_known_is_refused_before_another_metric_begins() -> None:
    class Slow(Script):
        async def score(self, texts: Sequence[StoredText]) -> Scores:
            pytest.fail("it has begun")

    metrics = [Slow(), LANGUAGE_METRICS["lfs"](FASTTEXT, None)]
    with pytest.raises(InvalidRequest, match="does not know gsw_Latn"):
        asyncio.run(evaluate_texts([text(FRENCH, "gsw_Latn")], metrics))


def test_the_harmonic_mean() -> None:
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
