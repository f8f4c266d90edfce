"""BLEU as the published code computes it: the score of each batch, then the mean over batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.metrics.bootstrap import Floats
from jobs.metrics.mean import compare_means, evaluate_mean
from jobs.metrics.result import MetricResult, too_few

BATCH = 8
"""Sentences a batch, as in most of the published commands."""


class BatchBleu:
    """The mean over batches of BATCH sentences, in their order, of sacrebleu's BLEU with the tokenizer 13a.

    Intervals are bootstraps over batches; `n` counts sentences.
    """

    name = "bleu_13a"
    columns = ("completion", "gold")
    higher_is_better = True
    no_effect = None

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean, on sacrebleu's scale to 100."""
        return _of_batches(evaluate_mean(_scores(samples), rng), len(samples))

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the mean, and its difference to the baseline's over the same batches."""
        return _of_batches(compare_means(_scores(steered), _scores(baseline), rng), len(steered))


def _of_batches(verdict: MetricResult, sentences: int) -> MetricResult:
    """Return a verdict over batches with the number of sentences, and a note where there are few batches."""
    note = too_few(verdict.n, "batches") if verdict.n else None
    return replace(verdict, n=sentences, note=note)


def _scores(samples: pa.Table) -> Floats:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(tokenize="13a", force=True)
    written, gold = samples["completion"].to_pylist(), samples["gold"].to_pylist()
    batches = range(0, len(written), BATCH)
    found = [bleu.corpus_score(written[at : at + BATCH], [gold[at : at + BATCH]]).score for at in batches]
    return np.array(found, dtype=np.float64)


BATCH_BLEU = BatchBleu()
