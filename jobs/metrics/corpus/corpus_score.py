"""BLEU and chrF++ of a corpus, computed by sacrebleu, with its paired bootstrap.

The score depends on sums of the sentences' counts, so a resampled corpus costs one sum, weighted by how often each
sentence was drawn. Draws, intervals and p-values are those of `sacrebleu.significance` with its default seed and 1000
resamples: its command line gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from http.client import HTTPException

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.metrics.corpus.corpus_metrics import Bleu, ChrfPlus, CorpusMetric, counts_of
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import Floats, batches, interval, is_point

RESAMPLES = 1000
SEED = 12345
"""Default seed of sacrebleu."""
_UNAVAILABLE = (OSError, RuntimeError, HTTPException, SystemExit)
"""Exceptions of downloading and opening a tokenizer's model; sacrebleu exits if TLS fails."""


@dataclass(frozen=True)
class CorpusScore:
    """The score of `completion` against `gold`, one sentence a line, on sacrebleu's scale from 0 to 100.

    Attributes:
        name: The name in the summary.
        make: Builds the metric. Called when the first score is needed, and again if it failed.
        columns: The columns with the texts and the reference texts.
        higher_is_better: Whether a larger value is an improvement.
        no_effect: None: the value without effect is the baseline's.
    """

    name: str
    make: Callable[[], CorpusMetric]
    columns: tuple[str, ...] = ("completion", "gold")
    higher_is_better: bool | None = True
    no_effect: float | None = None

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the score of the corpus."""
        del rng
        if not len(samples):
            return MetricResult(n=0)
        try:
            metric = self._metric
        except _UNAVAILABLE as error:
            reason = str(error) or type(error).__name__
            note = f"sacrebleu could not download what {self.name} needs into its folder (SACREBLEU): {reason}"
            return MetricResult(n=len(samples), note=note)
        scores = _scores(metric, samples)
        low, high = interval(scores.resampled)
        return MetricResult(n=len(samples), value=scores.value, ci_low=low, ci_high=high, signature=_signature(metric))

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the score of the corpus and its difference from the baseline's on the same sentences."""
        result = self.evaluate(steered, rng)
        if result.value is None:
            return result
        before, after = _scores(self._metric, baseline), _scores(self._metric, steered)
        delta = after.value - before.value
        differences = after.resampled - before.resampled
        low, high = interval(differences)
        return replace(
            result,
            baseline=before.value,
            delta=delta,
            p_value=_p_value(np.abs(differences), abs(delta), is_point=is_point(low, high)),
            delta_ci_low=low,
            delta_ci_high=high,
        )

    @cached_property
    def _metric(self) -> CorpusMetric:
        return self.make()  # an exception is not cached, so the next cell tries again


@dataclass(frozen=True)
class _Scores:
    """The score of a corpus, and those of the RESAMPLES corpora drawn from its sentences [RESAMPLES]."""

    value: float
    resampled: Floats


def _scores(metric: CorpusMetric, samples: pa.Table) -> _Scores:
    return _scores_of(metric, tuple(samples["completion"].to_pylist()), tuple(samples["gold"].to_pylist()))


@lru_cache(maxsize=16)
def _scores_of(metric: CorpusMetric, written: tuple[str, ...], gold: tuple[str, ...]) -> _Scores:
    """Return the scores of a corpus. Each cell is compared with the same baseline, which is scored once."""
    counts = counts_of(metric, written, gold)
    resampled = np.array([metric.score(totals) for drawn in _draws(len(counts)) for totals in drawn @ counts])
    return _Scores(metric.score(counts.sum(axis=0)), resampled)


def _signature(metric: CorpusMetric) -> str:
    """Return sacrebleu's signature, with the bootstrap's seed and number of resamples."""
    signature = metric.signature()
    signature.update("seed", str(SEED))
    signature.update("bs", RESAMPLES)
    return str(signature)


def _draws(sentences: int) -> Iterator[NDArray[np.int64]]:
    """Yield batches of resampled corpora as the count of each sentence, [resamples, sentences]."""
    rng = np.random.default_rng(SEED)
    for resamples in batches(RESAMPLES, sentences):
        chosen = rng.choice(sentences, size=(resamples, sentences), replace=True)
        yield np.stack([np.bincount(row, minlength=sentences) for row in chosen])


def _p_value(differences: Floats, observed: float, *, is_point: bool) -> float | None:
    """Return the share of resamples whose difference, centred at 0, is larger than the observed one.

    If the resamples do not differ, sacrebleu's rule gives the smallest p-value there is, also to a text that is
    compared with itself. Here that has a p-value of 1, and any other difference none, since there is no distribution
    to compare it with.
    """
    if is_point:
        return 1.0 if observed < 1e-9 else None
    larger = int((differences - differences.mean() > observed).sum())
    return (larger + 1) / (len(differences) + 1)


BLEU_FLORES200 = CorpusScore("bleu_flores200", partial(Bleu, "flores200"))
BLEU_13A = CorpusScore("bleu_13a", partial(Bleu, "13a"))
CHRF_PLUS = CorpusScore("chrf++", ChrfPlus)
