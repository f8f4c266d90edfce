"""A corpus score that gives no credit to segments in the wrong language."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from ampsweep.domain.languages.codes import without_region
from ampsweep.errors import InvalidRequest
from jobs.language_control.identifiers import DEFAULT, open_identifier, require_languages
from jobs.metrics.corpus.corpus_score import CHRF_PLUS, CorpusScore
from jobs.metrics.language_share import wanted_language
from jobs.metrics.result import MetricResult


@dataclass(frozen=True, kw_only=True)
class LanguagePenalty:
    """The score of a corpus whose hypotheses in the wrong language are replaced by the empty string.

    A hypothesis is wrong if py3langid identifies another language than the data language, or none, whatever its
    confidence. An empty hypothesis has no n-grams, while those of its reference stay in the corpus: recall falls by the
    reference of the whole segment, and precision is that of the other segments. Otherwise a translation that copies the
    source would get credit for the names and numbers that both languages share.
    """

    name: str
    score: CorpusScore
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return (*self.score.columns, "data_language")

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the corpus' score."""
        try:
            return _described(self.score.evaluate(_penalized(samples), rng))
        except InvalidRequest as error:  # py3langid is missing, or does not know the language
            return MetricResult(n=len(samples), note=error.message)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the corpus' score, and its difference from the baseline's over the same sentences."""
        try:
            return _described(self.score.compare(_penalized(steered), _penalized(baseline), rng))
        except InvalidRequest as error:
            return MetricResult(n=len(steered), note=error.message)


def _penalized(samples: pa.Table) -> pa.Table:
    """Return samples without the completions that are not in the data language."""
    if (language := wanted_language(samples, "data_language")) is None:
        return samples
    language = without_region(language)
    require_languages(open_identifier(DEFAULT), {language})
    column = samples.column_names.index("completion")
    credited = [text if _language(text) == language else "" for text in samples["completion"].to_pylist()]
    return samples.set_column(column, "completion", pa.array(credited, pa.string()))


@lru_cache(maxsize=4096)
def _language(text: str) -> str | None:
    return open_identifier(DEFAULT).identify(text).language


def _described(result: MetricResult) -> MetricResult:
    if result.signature is None:
        return result
    return replace(result, signature=f"{result.signature}|identifier:{open_identifier(DEFAULT).identity}")


CHRF_PLUS_IN_LANGUAGE = LanguagePenalty(name="chrf++_in_language", score=CHRF_PLUS)
