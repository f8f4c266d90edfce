"""BLEU and chrF++: a number of a whole corpus, by sacrebleu, with sacrebleu's paired bootstrap.

A corpus' score is made of sums over its sentences' statistics, so a resampled corpus costs one sum: how often each
sentence was drawn, times its statistics. Draws, intervals and p-values are those of `sacrebleu.significance` with its
default seed and 1000 resamples, so they are the numbers its own command line gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.metrics.bootstrap import Floats, interval
from jobs.metrics.verdict import Verdict

RESAMPLES = 1000
SEED = 12345
"""sacrebleu's own."""


@dataclass(frozen=True)
class CorpusScore:
    """A metric of sacrebleu's over `completion` against `gold`, both one line a sentence; on sacrebleu's scale to 100.

    `make` builds the metric; it is called when the first score is needed.
    """

    name: str
    make: Callable[[], Any]
    columns: tuple[str, ...] = ("completion", "gold")
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @cached_property
    def signature(self) -> str:
        """What sacrebleu says of how it is computed, version and resampling included; known after the first score."""
        signature = self._metric.get_signature()
        signature.update("seed", str(SEED))
        signature.update("bs", RESAMPLES)
        return str(signature)

    def alone(self, samples: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the corpus' score."""
        del rng
        if not len(samples):
            return Verdict(n=0)
        if (note := self._missing) is not None:
            return Verdict(n=len(samples), note=note)
        return self._verdict(self._statistics(samples), _drawn(len(samples)))

    def against(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the corpus' score, and its difference to the baseline's over the same sentences."""
        own = self.alone(steered, rng)
        if own.value is None:
            return own
        statistics, plain = self._statistics(steered), self._statistics(baseline)
        drawn = _drawn(len(steered))
        scores, plain_scores = self._resampled(statistics, drawn), self._resampled(plain, drawn)
        reached = self._score(plain.sum(axis=0))
        delta = own.value - reached
        low, high = interval(scores - plain_scores)
        return replace(
            own,
            baseline=reached,
            delta=delta,
            p_value=_p_value(np.abs(scores - plain_scores), abs(delta)),
            delta_ci_low=low,
            delta_ci_high=high,
        )

    @cached_property
    def _metric(self) -> Any:
        return self.make()

    @cached_property
    def _missing(self) -> str | None:
        """Return what this needs and could not get: some tokenizers' models are fetched at their first use."""
        try:
            _ = self._metric
        except OSError as error:
            return f"sacrebleu could not get what {self.name} needs into its folder (SACREBLEU): {error}"
        return None

    def _statistics(self, samples: pa.Table) -> Floats:
        """Return each sentence's statistics, [n, k]."""
        references = [samples["gold"].to_pylist()]
        found = self._metric._extract_corpus_statistics(samples["completion"].to_pylist(), references)  # noqa: SLF001
        return np.array(found, dtype=np.float64)

    def _score(self, totals: Floats) -> float:
        return float(self._metric._compute_score_from_stats(totals.tolist()).score)  # noqa: SLF001

    def _resampled(self, statistics: Floats, drawn: NDArray[np.int64]) -> Floats:
        return np.array([self._score(totals) for totals in drawn @ statistics])

    def _verdict(self, statistics: Floats, drawn: NDArray[np.int64]) -> Verdict:
        low, high = interval(self._resampled(statistics, drawn))
        value = self._score(statistics.sum(axis=0))
        return Verdict(n=len(statistics), value=value, ci_low=low, ci_high=high, signature=self.signature)


def _drawn(sentences: int) -> NDArray[np.int64]:
    """Return how often each sentence stands in each resampled corpus, [RESAMPLES, sentences]."""
    chosen = np.random.default_rng(SEED).choice(sentences, size=(RESAMPLES, sentences), replace=True)
    return np.stack([np.bincount(row, minlength=sentences) for row in chosen])


def _p_value(differences: Floats, seen: float) -> float:
    """Return the share of resamples whose difference, its mean taken away, is larger than the one seen."""
    larger = int((differences - differences.mean() > seen).sum())
    return (larger + 1) / (len(differences) + 1)


def _bleu(tokenize: str) -> Callable[[], Any]:
    def make() -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=tokenize, force=True)

    return make


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


BLEU_FLORES200 = CorpusScore("bleu_flores200", _bleu("flores200"))
BLEU_13A = CorpusScore("bleu_13a", _bleu("13a"))
CHRF_PLUS = CorpusScore("chrf++", _chrf)
