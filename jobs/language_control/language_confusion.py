"""Line and word pass rates of the Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052).

An answer is cut at a line that begins with "Q:", ASCII punctuation is removed, and its lines of at least 5 words are
identified one by one. It passes if all of them are in the wanted language; an answer without such a line is not
counted. A passing answer in a language that is not written in Latin letters also passes by words if it contains no
English word.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from ampsweep.domain.languages.identifier import LanguageIdentifier
from jobs.language_control.words import word_splitter

MIN_WORDS = 5
"""Words of the shortest line that is identified."""
MIN_CONFIDENCE = 0.3
"""A line whose identification is not more confident than this is in no language, and therefore wrong."""
MIN_LETTERS = 4
"""Letters of the shortest English word that counts."""
WORD_LANGUAGES = frozenset({"ar", "hi", "ja", "ko", "ru", "zh"})
"""Languages for which English words are counted. In Latin script too many words belong to both languages."""

_PUNCTUATION = str.maketrans({**dict.fromkeys(string.punctuation + "\N{ARABIC COMMA}"), "\N{EM DASH}": " "})


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """The result of checking one answer.

    Attributes:
        lines: How many of its lines have at least `MIN_WORDS` words. An answer with none is not counted.
        wrong_lines: How many of those are not in the wanted language.
        english_words: Whether they contain an English word; None for a language that is not in `WORD_LANGUAGES`, and
            without a list of English words.
    """

    lines: int
    wrong_lines: int
    english_words: bool | None

    @property
    def line_pass(self) -> bool | None:
        """Whether all lines are in the wanted language; None if the answer is not counted."""
        return None if not self.lines else not self.wrong_lines

    @property
    def word_pass(self) -> bool | None:
        """Whether the answer passes by lines and has no English word; None where that is not defined."""
        return None if not self.line_pass or self.english_words is None else not self.english_words


def check_answer(
    answer: str, language: str, *, identifier: LanguageIdentifier, english_words: frozenset[str] | None = None
) -> CheckedAnswer:
    """Check one answer.

    Args:
        answer: The answer.
        language: Code of the wanted language.
        identifier: Identifies the language of lines. The published figures use fastText's lid.176.
        english_words: Words as `english_word_list` returns them; None leaves the word pass rate undefined.

    Returns:
        How many lines count and how many of them are in another language, and whether there is an English word.
    """
    lines = _counted_lines(answer, language)
    wrong = 0
    for line, _ in lines:
        identified = identifier.identify(line)
        wrong += identified.language != language or not identified.confidence > MIN_CONFIDENCE
    has_english_words = None
    if english_words is not None and language in WORD_LANGUAGES:
        has_english_words = bool(_words_of(lines, english_words))
    return CheckedAnswer(lines=len(lines), wrong_lines=wrong, english_words=has_english_words)


def english_words_by_language(answer: str, english_words: frozenset[str]) -> dict[str, list[str]]:
    """Return the English words in an answer's lines, split as in each language of `WORD_LANGUAGES`.

    Languages for which there is none are left out. An answer that passes by lines in a language passes by words if the
    language is left out here.
    """
    by_language = {
        language: sorted(_words_of(_counted_lines(answer, language), english_words))
        for language in sorted(WORD_LANGUAGES)
    }
    return {language: words for language, words in by_language.items() if words}


def english_word_list(text: str) -> frozenset[str]:
    """Return the words of a list with one word a line that are lower-case and have more than three letters.

    Names and abbreviations, which begin with a capital, occur in texts of every language.
    """
    return frozenset(word for line in text.splitlines() if len(word := line.strip()) >= MIN_LETTERS and word.islower())


def _counted_lines(answer: str, language: str) -> list[tuple[str, list[str]]]:
    """Return the lines of an answer that are long enough to count, each with its words."""
    split = word_splitter(language)
    return [(line, words) for line in _normalize(answer).split("\n") if len(words := split(line)) >= MIN_WORDS]


def _words_of(lines: list[tuple[str, list[str]]], english_words: frozenset[str]) -> set[str]:
    return {stripped for _, words in lines for word in words if (stripped := word.strip()) in english_words}


def _normalize(answer: str) -> str:
    return answer.split("\nQ:")[0].strip().translate(_PUNCTUATION)
