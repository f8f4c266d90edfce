"""Shares of generated texts that are in a given language, or in its script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ampsweep.domain.languages.codes import without_region
from jobs.language_control.scripts import is_in_script_of
from jobs.metrics.item_sums import compare_answers, evaluate_answers, has_several_answers
from jobs.metrics.result import MetricResult
from jobs.metrics.share import Truths, compare_shares, evaluate_share


@dataclass(frozen=True, kw_only=True)
class LanguageShare:
    """The share of answers that are in a language, according to one column of the samples.

    An unsteered cell has no target language, so its share of texts in it is undefined. A steered cell is compared with
    the baseline's share of texts in the target language of the steered cell. If a cell is steered to several languages,
    a text in any of them counts.

    Attributes:
        name: The name in the summary.
        language: The column with the wanted language.
        column: The column that says what language an answer is in.
        holds: Whether a value of the column means the language; None if it cannot be known for this language.
        higher_is_better: Whether a larger value is an improvement.
        no_effect: None, because the baseline's value is the reference.
    """

    name: str
    language: str
    column: str
    holds: Callable[[str, str], bool | None]
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return ("doc_id", self.column, self.language)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the share, between 0 and 1; None if the cell has no such language."""
        wanted = wanted_language(samples, self.language)
        if wanted is None and len(samples):
            return None
        if (truths := self._truths(samples, wanted)) is None:
            return _unknown(wanted)
        if has_several_answers(samples):
            return evaluate_answers(truths, samples["doc_id"].to_pylist(), rng, is_share=True)
        return evaluate_share(truths)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the share and its difference from the baseline's share of the same language; None if it has none."""
        wanted = wanted_language(steered, self.language)
        if wanted is None and len(steered):
            return None
        truths, plain = self._truths(steered, wanted), self._truths(baseline, wanted)
        if truths is None or plain is None:
            return _unknown(wanted)
        if has_several_answers(steered):
            return compare_answers(truths, plain, steered["doc_id"].to_pylist(), rng, is_share=True)
        return compare_shares(truths, plain, rng)

    def _truths(self, samples: pa.Table, wanted: str | None) -> Truths | None:
        languages = (wanted or "").split("+")
        truths = [
            [value is not None and self.holds(value, language) for language in languages]
            for value in samples[self.column].to_pylist()
        ]
        if any(None in by_language for by_language in truths):
            return None
        return np.array([any(by_language) for by_language in truths], dtype=bool)


def _is_in(identified: str, language: str) -> bool:
    """Return whether an identified language is the wanted one, whose region no identifier tells."""
    return identified == without_region(language)


def wanted_language(samples: pa.Table, column: str) -> str | None:
    """Return the language in a column, which is the same for all samples of a cell; None if the cell has none."""
    wanted: str | None = samples[column][0].as_py() if len(samples) else None
    return wanted


def _unknown(wanted: str | None) -> MetricResult:
    return MetricResult(n=0, note=f"the script that {wanted} is written in is not known")


IN_TARGET = LanguageShare(name="in_target_language", language="target_language", column="prediction", holds=_is_in)
IN_DATA = replace(IN_TARGET, name="in_data_language", language="data_language")
IN_TARGET_SCRIPT = LanguageShare(
    name="in_target_script", language="target_language", column="completion", holds=is_in_script_of
)
IN_DATA_SCRIPT = replace(IN_TARGET_SCRIPT, name="in_data_script", language="data_language")
LFS = replace(IN_TARGET, name="lfs")
"""Language forcing of CLaS-Bench (Gurgurov et al. 2026): the share of answers in the language that is steered to."""
