"""Metrics of language control: line and word pass rates, language forcing and script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ampsweep.domain.languages.codes import without_region
from ampsweep.domain.languages.identifier import UNKNOWN, LanguageIdentifier, has_letters
from jobs.evaluation.metric import Scores, TextMetric, TextScore, Values, defined, mean_with_interval, note_on
from jobs.evaluation.texts import StoredText
from jobs.language_control.identifiers import require_languages
from jobs.language_control.language_confusion import CheckedAnswer, check_answer
from jobs.language_control.scripts import is_in_script_of
from jobs.language_control.words import tokenizer_name


@dataclass(frozen=True, kw_only=True)
class _ByIdentifier:
    """What metrics that identify languages share."""

    identifier: LanguageIdentifier
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def identity(self) -> str:
        """The language identifier."""
        return self.identifier.identity


@dataclass(frozen=True, kw_only=True)
class LanguageConfusion(_ByIdentifier):
    """LPR, WPR and their harmonic mean LCPR; see `jobs.language_control.language_confusion`."""

    english_words: frozenset[str] | None
    name: ClassVar[str] = "language_confusion"

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `lpr` and `wpr`: 1 for an answer that passes, 0 for one that does not; undefined if not counted."""
        _require_languages(self.identifier, texts)
        checked = await asyncio.to_thread(lambda: [self._check(text) for text in texts])
        return {
            "lpr": [TextScore(_as_number(answer.line_pass), _lines(answer)) for answer in checked],
            "wpr": [TextScore(_as_number(answer.word_pass)) for answer in checked],
        }

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `lpr`, `wpr`, `lcpr`; `counted`, the answers behind `lpr`; and the tokenizers of the languages."""
        counted = defined(scores["lpr"])
        languages = {without_region(text.language) for text in texts}
        lines, words = (mean_with_interval(name, texts, scores[name], rng, is_share=True) for name in ("lpr", "wpr"))
        lpr, wpr = lines["lpr"], words["wpr"]
        return {
            "counted": counted,
            **lines,
            **words,
            "lcpr": None if lpr is None or wpr is None else harmonic_mean(lpr, wpr),
            "identifier": self.identity,
            "tokenizers": {name: tokenizer_name(name) for name in sorted(languages)},
            "note": note_on(texts, scores["lpr"], scores["wpr"]),
        }

    def _check(self, text: StoredText) -> CheckedAnswer:
        wanted = without_region(text.language)
        return check_answer(text.text, wanted, identifier=self.identifier, english_words=self.english_words)


@dataclass(frozen=True, kw_only=True)
class LanguageForcing(_ByIdentifier):
    """LFS of CLaS-Bench: the share of texts whose language, identified over the whole text, is the wanted one."""

    name: ClassVar[str] = "lfs"

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `lfs`, 1 or 0, with the identified language. A text without letters is in no language."""
        _require_languages(self.identifier, texts)
        languages = await asyncio.to_thread(lambda: [self._language(text.text) for text in texts])
        return {
            "lfs": [
                TextScore(float(language == without_region(text.language)), language)
                for text, language in zip(texts, languages, strict=True)
            ]
        }

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `lfs`."""
        values = mean_with_interval("lfs", texts, scores["lfs"], rng, is_share=True)
        return {**values, "identifier": self.identity, "note": note_on(texts, scores["lfs"])}

    def _language(self, text: str) -> str | None:
        return (self.identifier.identify(text) if has_letters(text) else UNKNOWN).language


@dataclass(frozen=True, kw_only=True)
class Script:
    """The share of texts more than half of whose letters are in the script that the wanted language is written in.

    It distinguishes a text in another language of the same script (Indonesian for Malay) from one in another script.
    """

    name: ClassVar[str] = "script"
    identity: ClassVar[str] = "Unicode scripts"
    needs: ClassVar[frozenset[str]] = frozenset()

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `script`, 1 or 0; undefined for a language whose script is not known."""
        in_script = await asyncio.to_thread(lambda: [is_in_script_of(text.text, text.language) for text in texts])
        return {"script": [TextScore(_as_number(value)) for value in in_script]}

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `script`."""
        column = scores["script"]
        return {**mean_with_interval("script", texts, column, rng, is_share=True), "note": note_on(texts, column)}


LANGUAGE_METRICS: Mapping[str, Callable[[LanguageIdentifier, frozenset[str] | None], TextMetric]] = {
    "language_confusion": lambda identifier, words: LanguageConfusion(identifier=identifier, english_words=words),
    "lfs": lambda identifier, _words: LanguageForcing(identifier=identifier),
    "script": lambda _identifier, _words: Script(),
}
"""Makes each metric from a language identifier, and a list of English words for the word pass rate."""


def check_languages(metrics: Sequence[TextMetric], texts: Sequence[StoredText]) -> None:
    """Raise InvalidRequest if the identifier of a metric does not know the language of a text (param "identifier")."""
    for metric in metrics:
        if isinstance(metric, _ByIdentifier):
            _require_languages(metric.identifier, texts)


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two rates; 0 if either is 0."""
    return 0.0 if not first or not second else 2 * first * second / (first + second)


def _require_languages(identifier: LanguageIdentifier, texts: Sequence[StoredText]) -> None:
    require_languages(identifier, {text.language for text in texts})


def _as_number(passes: bool | None) -> float | None:
    return None if passes is None else float(passes)


def _lines(answer: CheckedAnswer) -> str:
    return f"{answer.wrong_lines} of {answer.lines} lines wrong" if answer.lines else "no line that counts"
