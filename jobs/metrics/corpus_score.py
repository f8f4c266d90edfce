"""BLEU and chrF++: a number of a whole corpus, by sacrebleu, with sacrebleu's paired bootstrap.

A corpus' score is made of sums over its sentences' statistics, so a resampled corpus costs one sum: how often each
sentence was drawn, times its statistics. Draws, intervals and p-values are those of `sacrebleu.significance` with its
default seed and 1000 resamples, so they are the numbers its own command line gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from http.client import HTTPException

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.metrics.bootstrap import Floats, batches, interval
from jobs.metrics.corpus_metrics import Bleu, ChrfPlus, CorpusMetric, counts_of
from jobs.metrics.result import MetricResult

RESAMPLES = 1000
SEED = 12345
"""sacrebleu's own."""
_NOT_TO_BE_HAD = (OSError, RuntimeError, HTTPException, SystemExit)
"""What fetching and opening a tokenizer's model may raise; sacrebleu exits where TLS fails."""


@dataclass(frozen=True)
class CorpusScore:
    """A metric of sacrebleu's over `completion` against `gold`, both one line a sentence; on sacrebleu's scale to 100.

    `make` builds the metric; it is called when the first score is needed, and again after it failed.
    """

    name: str
    make: Callable[[], CorpusMetric]
    columns: tuple[str, ...] = ("completion", "gold")
    higher_is_better: bool | None = True
    no_effect: float | None = None

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the corpus' score."""
        del rng
        if not len(samples):
            return MetricResult(n=0)
        try:
            metric = self._metric
        except _NOT_TO_BE_HAD as error:
            reason = str(error) or type(error).__name__
            note = f"sacrebleu could not get what {self.name} needs into its folder (SACREBLEU): {reason}"
            return MetricResult(n=len(samples), note=note)
        value, signature = self._of_corpus(samples)
        low, high = interval(_resampled(metric, _counts(metric, samples)))
        return MetricResult(n=len(samples), value=value, ci_low=low, ci_high=high, signature=signature)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the corpus' score, and its difference to the baseline's over the same sentences."""
        own = self.evaluate(steered, rng)
        if own.value is None:
            return own
        metric = self._metric
        differences = _resampled(metric, _counts(metric, steered)) - _resampled(metric, _counts(metric, baseline))
        reached, _ = self._of_corpus(baseline)
        delta = own.value - reached
        low, high = interval(differences)
        return replace(
            own,
            baseline=reached,
            delta=delta,
            p_value=_p_value(np.abs(differences), abs(delta)),
            delta_ci_low=low,
            delta_ci_high=high,
        )

    @cached_property
    def _metric(self) -> CorpusMetric:
        return self.make()  # what it raises is not kept: the next cell tries again

    def _of_corpus(self, samples: pa.Table) -> tuple[float, str]:
        """Return sacrebleu's score, and its signature with that of the resampling."""
        theirs = self._metric.metric
        score = theirs.corpus_score(samples["completion"].to_pylist(), [samples["gold"].to_pylist()]).score
        signature = theirs.get_signature()
        signature.update("seed", str(SEED))
        signature.update("bs", RESAMPLES)
        return float(score), str(signature)


def _counts(metric: CorpusMetric, samples: pa.Table) -> Floats:
    return counts_of(metric, samples["completion"].to_pylist(), samples["gold"].to_pylist())


def _resampled(metric: CorpusMetric, counts: Floats) -> Floats:
    """Return the scores of RESAMPLES corpora drawn from the sentences with these counts, [n, k]."""
    return np.array([metric.score(totals) for drawn in _draws(len(counts)) for totals in drawn @ counts])


def _draws(sentences: int) -> Iterator[NDArray[np.int64]]:
    """Yield, for some resampled corpora at a time, how often each sentence stands in them, [resamples, sentences]."""
    rng = np.random.default_rng(SEED)
    for resamples in batches(RESAMPLES, sentences):
        chosen = rng.choice(sentences, size=(resamples, sentences), replace=True)
        yield np.stack([np.bincount(row, minlength=sentences) for row in chosen])


def _p_value(differences: Floats, seen: float) -> float:
    """Return the share of resamples whose difference, its mean taken away, is larger than the one seen."""
    larger = int((differences - differences.mean() > seen).sum())
    return (larger + 1) / (len(differences) + 1)


BLEU_FLORES200 = CorpusScore("bleu_flores200", partial(Bleu, "flores200"))
BLEU_13A = CorpusScore("bleu_13a", partial(Bleu, "13a"))
CHRF_PLUS = CorpusScore("chrf++", ChrfPlus)
