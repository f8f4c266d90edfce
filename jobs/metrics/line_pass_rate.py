"""The line pass rate of the Language Confusion Benchmark as a metric of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from jobs.language_control.identifiers import PACKAGED_FASTTEXT, open_identifier
from jobs.language_control.language_confusion import MIN_WORDS, check_answer
from jobs.metrics.language_share import wanted_language
from jobs.metrics.result import MetricResult, too_few
from jobs.metrics.share import Truths, compare_shares, evaluate_share

IDENTIFIER = PACKAGED_FASTTEXT
"""The benchmark's identifier, fastText's lid.176, in the compressed form that a package contains."""


@dataclass(frozen=True, kw_only=True)
class LinePassRate:
    """The share of answers all of whose lines are in a language; see `jobs.language_control.language_confusion`.

    Answers without a line that is long enough are not counted. In a comparison an answer counts if both it and the
    baseline's answer to the same prompt have such a line, because the difference is one between pairs.

    Attributes:
        name: The name in the summary.
        language: The column with the wanted language.
        higher_is_better: Whether a larger value is an improvement.
        no_effect: None: the value without effect is the baseline's.
    """

    name: str
    language: str
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return ("completion", self.language)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the rate, between 0 and 1; None if the cell has no such language."""
        wanted = wanted_language(samples, self.language)
        if wanted is None and len(samples):
            return None
        passes = [passed for passed in _passes(samples, wanted) if passed is not None]
        return _described(evaluate_share(_truths(passes), rng))

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the rate and its difference from the baseline's rate of the same language."""
        wanted = wanted_language(steered, self.language)
        both = zip(_passes(steered, wanted), _passes(baseline, wanted), strict=True)
        pairs = [(passed, plain) for passed, plain in both if passed is not None and plain is not None]
        steered_passes, baseline_passes = ([pair[side] for pair in pairs] for side in (0, 1))
        return _described(compare_shares(_truths(steered_passes), _truths(baseline_passes), rng))


def _passes(samples: pa.Table, wanted: str | None) -> list[bool | None]:
    """Return for each answer whether it passes in the wanted language, or in any of several joined by "+"."""
    languages = (wanted or "").split("+")
    passes = []
    for answer in samples["completion"].to_pylist():
        by_language = [_passes_in(answer or "", language) for language in languages]
        passes.append(None if None in by_language else any(by_language))
    return passes


@lru_cache(maxsize=4096)
def _passes_in(answer: str, language: str) -> bool | None:
    return check_answer(answer, language, identifier=open_identifier(IDENTIFIER)).line_pass


def _truths(passes: list[bool]) -> Truths:
    return np.array(passes, dtype=bool)


def _described(result: MetricResult) -> MetricResult:
    if not result.n:
        return replace(result, note=f"no answer has a line of at least {MIN_WORDS} words")
    return replace(result, note=too_few(result.n, "answers"), signature=open_identifier(IDENTIFIER).identity)


LPR = LinePassRate(name="lpr", language="data_language")
TARGET_LPR = LinePassRate(name="target_lpr", language="target_language")
