"""Rates of language control over stored texts, by group: line and word pass rates, language forcing, and script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ampsweep.errors import UnknownName
from jobs.evaluation.texts import StoredText
from jobs.language_control.identifier import LanguageIdentifier
from jobs.language_control.identifiers import require_languages
from jobs.language_control.language_confusion import check_answer
from jobs.language_control.scripts import is_in_script_of
from jobs.language_control.words import tokenizer_name
from jobs.metrics.result import FEW
from jobs.metrics.share import evaluate_share

Values = dict[str, Any]


class TextMetric(Protocol):
    """Evaluates the texts of one group."""

    def evaluate(self, texts: Sequence[StoredText], rng: np.random.Generator) -> Values:
        """Return the group's values: rates from 0 to 1, None where they are not defined, and their intervals."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfusion:
    """LPR, WPR and their harmonic mean LCPR; see `jobs.language_control.language_confusion`."""

    identifier: LanguageIdentifier
    english_words: frozenset[str] | None

    def evaluate(self, texts: Sequence[StoredText], rng: np.random.Generator) -> Values:
        """Return `lpr`, `wpr`, `lcpr`; `counted`, the answers behind `lpr`; and the tokenizers of the languages."""
        checked = [
            check_answer(text.text, text.language, identifier=self.identifier, english_words=self.english_words)
            for text in texts
        ]
        by_line = [answer.line_pass for answer in checked if answer.line_pass is not None]
        by_word = [answer.word_pass for answer in checked if answer.word_pass is not None]
        lines, words = _rate("lpr", by_line, rng), _rate("wpr", by_word, rng)
        lpr, wpr = lines["lpr"], words["wpr"]
        return {
            "n": len(texts),
            "counted": len(by_line),
            **lines,
            **words,
            "lcpr": None if lpr is None or wpr is None else harmonic_mean(lpr, wpr),
            "identifier": self.identifier.identity,
            "tokenizers": {name: tokenizer_name(name) for name in sorted({text.language for text in texts})},
            "note": _note(len(by_line)),
        }


@dataclass(frozen=True, kw_only=True)
class LanguageForcing:
    """LFS of CLaS-Bench: the share of texts whose language, identified over the whole text, is the wanted one.

    `script` is the share of texts whose letters are mostly of the script that the wanted language is written in. It
    tells a text in another language of the same script (Indonesian for Malay) from one in another script.
    """

    identifier: LanguageIdentifier

    def evaluate(self, texts: Sequence[StoredText], rng: np.random.Generator) -> Values:
        """Return `lfs` and `script`. A text without letters is in no language and in no script."""
        in_language = [self.identifier.identify(text.text).language == text.language for text in texts]
        in_script = [
            is_in_script for text in texts if (is_in_script := is_in_script_of(text.text, text.language)) is not None
        ]
        return {
            "n": len(texts),
            **_rate("lfs", in_language, rng),
            **_rate("script", in_script, rng),
            "identifier": self.identifier.identity,
            "note": _note(len(in_language)),
        }


METRICS: Mapping[str, Callable[[LanguageIdentifier, frozenset[str] | None], TextMetric]] = {
    "language_confusion": lambda identifier, words: LanguageConfusion(identifier=identifier, english_words=words),
    "language_forcing": lambda identifier, _words: LanguageForcing(identifier=identifier),
}


def evaluate_texts(
    texts: Iterable[StoredText],
    metric: str,
    *,
    identifier: LanguageIdentifier,
    english_words: frozenset[str] | None = None,
    seed: int = 0,
) -> dict[tuple[Any, ...], Values]:
    """Evaluate texts by group.

    Args:
        texts: The texts, in any order.
        metric: A key of `METRICS`.
        identifier: Identifies the language of texts and lines.
        english_words: For the word pass rate; see `english_word_list`.
        seed: Of the bootstrap behind the intervals (95 %).

    Returns:
        The metric's values by group, in the order in which the groups first occur.

    Raises:
        UnknownName: There is no such metric.
        InvalidRequest: The identifier does not know one of the languages.
    """
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS, param="metric")
    groups: dict[tuple[Any, ...], list[StoredText]] = {}
    for text in texts:
        groups.setdefault(text.group, []).append(text)
    require_languages(identifier, {text.language for members in groups.values() for text in members})
    chosen = METRICS[metric](identifier, english_words)
    return {group: chosen.evaluate(members, np.random.default_rng(seed)) for group, members in groups.items()}


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two rates; 0 if either is 0."""
    return 0.0 if not first or not second else 2 * first * second / (first + second)


def _rate(name: str, passes: Sequence[bool], rng: np.random.Generator) -> Values:
    share = evaluate_share(np.array(passes, dtype=bool), rng)
    return {name: share.value, f"{name}_ci": [share.ci_low, share.ci_high] if share.n else None}


def _note(count: int) -> str | None:
    if not count:
        return "no text could be evaluated"
    return f"rests on {count} texts; at least {FEW} make an interval meaningful" if count < FEW else None
