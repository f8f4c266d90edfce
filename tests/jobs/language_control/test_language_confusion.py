"""Pass rates on worked examples, and on the published completions against a second implementation of the rule."""

from __future__ import annotations

import gzip
import json
import re
import string
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ampsweep.domain.languages.identifier import Identification
from jobs.language_control.identifiers import open_identifier
from jobs.language_control.language_confusion import (
    WORD_LANGUAGES,
    CheckedAnswer,
    check_answer,
    english_word_list,
    english_words_by_language,
)
from tests.jobs.evaluation.evaluated import evaluated
from tests.jobs.tasks.real_data import DATA

COMPLETIONS = DATA / "lcb" / "completions"
WORDS = english_word_list("that\nwith\nhouse\nLondon\nthe\nabout\nyour\nwhich\n")


class ByFirstWord:
    """Takes the first word of a line for its language, and a second one that is a number for the confidence."""

    identity = "by first word"
    languages = frozenset({"fr", "ru", "en"})

    def identify(self, text: str) -> Identification:
        first, second, *_ = text.split()
        return Identification(first, int(second) / 100 if second.isdigit() else 1.0)


@pytest.fixture
def check() -> Callable[[str, str], CheckedAnswer]:
    return partial(check_answer, identifier=ByFirstWord(), english_words=WORDS)


def test_every_line_of_five_words_counts(check: Callable[[str, str], CheckedAnswer]) -> None:
    assert check("fr un deux trois quatre\nfr un deux trois\nen un deux trois quatre", "fr") == CheckedAnswer(
        2, 1, None
    )
    assert check("fr un deux trois quatre", "fr").line_pass is True
    assert check("en un deux trois quatre", "fr").line_pass is False
    assert check("fr un deux trois", "fr").line_pass is None
    assert check("", "fr").line_pass is None


def test_punctuation_makes_no_word(check: Callable[[str, str], CheckedAnswer]) -> None:
    assert check("fr - un, deux ... trois", "fr").lines == 0
    assert check("fr un\N{EM DASH}deux trois quatre", "fr").lines == 1, "a dash separates words"


def test_what_follows_the_next_question_is_cut(check: Callable[[str, str], CheckedAnswer]) -> None:
    assert check("fr un deux trois quatre\nQ: en un deux trois quatre", "fr") == CheckedAnswer(1, 0, None)


def test_an_unsure_line_is_wrong(check: Callable[[str, str], CheckedAnswer]) -> None:
    assert check("fr 31 deux trois quatre", "fr").wrong_lines == 0
    assert check("fr 30 deux trois quatre", "fr").wrong_lines == 1


def test_english_words_count_where_the_script_is_another(check: Callable[[str, str], CheckedAnswer]) -> None:
    assert check("ru дом with окном и дверью", "ru") == CheckedAnswer(1, 0, True)
    assert check("ru дом the окном и дверью", "ru").english_words is False, "too short"
    assert check("ru дом London окном и дверью", "ru").english_words is False, "a name"
    assert check("fr house deux trois quatre", "fr").english_words is None
    assert check("en with deux trois quatre", "ru").word_pass is None, "it fails by lines already"
    assert check_answer("ru дом with окном и", "ru", identifier=ByFirstWord()).english_words is None


def test_a_word_list_keeps_lower_case_words_of_four_letters() -> None:
    assert english_word_list("The\nthat\r\nUSA\niPod\n would \nabc\n") == {"that", "would"}


@pytest.mark.parametrize(
    "answer",
    ["ru Кошка спит with that на диване\nwith one", "猫はhouseの上で朝から寝ています。", "Кошка на диване", ""],
)
def test_english_words_by_language_say_what_each_check_says(answer: str) -> None:
    words = english_words_by_language(answer, WORDS)
    for language in WORD_LANGUAGES:
        checked = check_answer(answer, language, identifier=open_identifier("lid.176.ftz"), english_words=WORDS)
        assert checked.english_words == (language in words)


def test_english_words_are_those_of_long_lines() -> None:
    words = english_words_by_language("ru Кошка спит with that на диване\nabout one", WORDS)
    assert words["ru"] == ["that", "with"]


def published_rates(answers: list[str], language: str, identify: Any, words: set[str]) -> dict[str, float | None]:
    """The rule of the benchmark's paper, written for this test alone."""

    def clean(answer: str) -> str:
        answer = re.split(r"\nQ:", answer, maxsplit=1)[0].strip()
        answer = "".join(character for character in answer if character not in string.punctuation)
        return answer.replace("\u2014", " ").replace("\u060c", "")

    def tokens(line: str) -> list[str]:
        if language == "zh":
            import jieba

            return list(jieba.cut(line))
        if language == "ja":
            import fugashi

            return str(fugashi.Tagger("-O wakati -b 50000").parse(line)).split()
        return line.split()

    passing = failing = english = 0
    for answer in map(clean, answers):
        long_lines = [line for line in answer.split("\n") if len(tokens(line)) > 4]
        if not long_lines:
            continue
        labels = [identify(line) for line in long_lines]
        if all(label == f"__label__{language}" and probability > 0.3 for label, probability in labels):
            passing += 1
            english += any(token.strip() in words for line in long_lines for token in tokens(line))
        else:
            failing += 1
    by_word = 1 - english / passing if passing and language in ("ar", "hi", "ja", "ko", "ru", "zh") else None
    return {"lpr": passing / (passing + failing) if passing + failing else None, "wpr": by_word}


@pytest.mark.processes  # takes seconds
@pytest.mark.skipif(not COMPLETIONS.is_dir(), reason="the benchmark's completions are not here")
@pytest.mark.parametrize("model", ["command-r", "mistral-8x7b"])
@pytest.mark.filterwarnings("ignore")  # jieba's, of its own syntax
def test_published_completions(model: str) -> None:
    import fasttext

    identifier = open_identifier("lid.176.ftz")
    fast = fasttext.load_model(str(identifier._path))  # type: ignore[attr-defined]

    def identify(line: str) -> tuple[str, float]:
        (label,), (probability,) = fast.predict(line)
        return label, probability

    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    with gzip.open(COMPLETIONS / f"{model}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            groups[row["task"], row["source"], row["language"]].append(row["completion"])
    assert len(groups) == 66
    for (_, _, language), answers in groups.items():
        wanted = published_rates(answers[:30], language, identify, set(WORDS))
        values = evaluated(answers[:30], language, "language_confusion", identifier=identifier, english_words=WORDS)
        for name in ("lpr", "wpr"):
            assert (
                values[name] == pytest.approx(wanted[name], abs=1e-9) if wanted[name] is not None else not values[name]
            )
