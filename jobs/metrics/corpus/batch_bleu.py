"""BLEU as the published code computes it: the mean of the scores of batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.metrics.mean import compare_means, evaluate_mean
from jobs.metrics.result import MetricResult, too_few
from jobs.statistics.bootstrap import Floats

BATCH = 8
"""Number of sentences in a batch, as in most of the published commands."""


class BatchBleu:
    """The mean of sacrebleu's BLEU (tokenizer 13a) over batches of BATCH successive sentences.

    Intervals are bootstrapped over batches; `n` counts sentences.
    """

    name = "bleu_13a"
    columns = ("completion", "gold")
    higher_is_better = True
    no_effect = None

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean, on sacrebleu's scale to 100."""
        return _of_batches(evaluate_mean(_scores(samples), rng), len(samples))

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean and its difference from the baseline's on the same batches."""
        return _of_batches(compare_means(_scores(steered), _scores(baseline), rng), len(steered))


def _of_batches(result: MetricResult, sentences: int) -> MetricResult:
    """Return a result over batches with `n` sentences, and with a note if there are few batches."""
    result = result.without_points()
    has_interval = result.ci_low is not None or result.delta_ci_low is not None
    notes = [result.note, too_few(result.n, "batches") if has_interval else None]
    return replace(result, n=sentences, note="; ".join(filter(None, notes)) or None)


def _scores(samples: pa.Table) -> Floats:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(tokenize="13a", force=True)
    written, gold = samples["completion"].to_pylist(), samples["gold"].to_pylist()
    starts = range(0, len(written), BATCH)
    scores = [
        bleu.corpus_score(written[start : start + BATCH], [gold[start : start + BATCH]]).score for start in starts
    ]
    return np.array(scores, dtype=np.float64)


BATCH_BLEU = BatchBleu()
