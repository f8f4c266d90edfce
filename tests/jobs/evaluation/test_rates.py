from __future__ import annotations

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.evaluation.rates import evaluate_texts, harmonic_mean
from jobs.evaluation.texts import StoredText
from jobs.language_control.identifiers import open_identifier

FRENCH = "Le chat dort sur le canapé depuis ce matin."
ENGLISH = "The cat has been sleeping on the sofa since this morning."
RUSSIAN = "Кошка с утра спит на старом диване."


def text(content: str, language: str, *group: str) -> StoredText:
    return StoredText(text=content, language=language, group=group)


def test_rates_by_group() -> None:
    texts = [text(FRENCH, "fr", "a"), text(ENGLISH, "fr", "a"), text("court", "fr", "a"), text(RUSSIAN, "ru", "b")]
    identifier = open_identifier("lid.176.ftz")
    values = evaluate_texts(texts, "language_confusion", identifier=identifier, english_words=frozenset({"sofa"}))
    assert list(values) == [("a",), ("b",)]
    french, russian = values.values()
    assert (french["n"], french["counted"], french["lpr"], french["wpr"], french["lcpr"]) == (3, 2, 0.5, None, None)
    assert (russian["lpr"], russian["wpr"], russian["lcpr"]) == (1.0, 1.0, 1.0)
    assert french["lpr_ci"][0] <= 0.5 <= french["lpr_ci"][1]
    assert french["note"] == "rests on 2 texts; at least 20 make an interval meaningful"
    assert (french["identifier"], french["tokenizers"]) == (identifier.identity, {"fr": "white space"})


def test_nothing_to_count_is_no_rate() -> None:
    (values,) = evaluate_texts(
        [text("court", "fr")], "language_confusion", identifier=open_identifier("lid.176.ftz")
    ).values()
    assert (values["n"], values["counted"], values["lpr"], values["lpr_ci"]) == (1, 0, None, None)
    assert values["note"] == "no text could be evaluated"


def test_language_and_script_are_told_apart() -> None:
    texts = [text(FRENCH, "fr"), text(ENGLISH, "fr"), text(RUSSIAN, "fr"), text("", "fr")]
    (values,) = evaluate_texts(texts, "language_forcing", identifier=open_identifier()).values()
    assert (values["lfs"], values["script"], values["n"]) == (0.25, 0.5, 4)


def test_equal_texts_give_equal_intervals() -> None:
    texts = [text(FRENCH, "fr"), text(ENGLISH, "fr")] * 20
    identifier = open_identifier()
    first, second = (evaluate_texts(texts, "language_forcing", identifier=identifier) for _ in range(2))
    assert first == second
    assert first[()]["note"] is None


def test_what_cannot_be_evaluated_is_named() -> None:
    with pytest.raises(UnknownName, match=r"'lfs'.*language_confusion, language_forcing"):
        evaluate_texts([], "lfs", identifier=open_identifier())
    with pytest.raises(InvalidRequest, match=r"does not know xx"):
        evaluate_texts([text("a", "xx")], "language_forcing", identifier=open_identifier())


def test_the_harmonic_mean() -> None:
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
