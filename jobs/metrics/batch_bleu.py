"""BLEU as published code takes it: of each batch by itself, then the mean of the batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.metrics.bootstrap import Floats, bootstrap_mean
from jobs.metrics.significance import sign_flip
from jobs.metrics.verdict import Verdict

BATCH = 8
"""Sentences a batch, as in most of the published commands."""


class BatchBleu:
    """The mean over batches of BATCH sentences, in their order, of sacrebleu's BLEU with the tokenizer 13a.

    Intervals are bootstraps over batches; `n` counts sentences.
    """

    name = "bleu_13a"
    columns = ("completion", "gold")

    def alone(self, samples: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the mean, on sacrebleu's scale to 100."""
        if not len(samples):
            return Verdict(n=0)
        scores = _scores(samples)
        low, high = bootstrap_mean(scores, rng)
        return Verdict(n=len(samples), value=float(scores.mean()), ci_low=low, ci_high=high)

    def against(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the mean, and its difference to the baseline's over the same batches."""
        own = self.alone(steered, rng)
        if not own.n:
            return own
        plain = _scores(baseline)
        difference = _scores(steered) - plain
        low, high = bootstrap_mean(difference, rng)
        return replace(
            own,
            baseline=float(plain.mean()),
            delta=float(difference.mean()),
            p_value=sign_flip(difference, rng),
            delta_ci_low=low,
            delta_ci_high=high,
        )


def _scores(samples: pa.Table) -> Floats:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(tokenize="13a", force=True)
    written, gold = samples["completion"].to_pylist(), samples["gold"].to_pylist()
    batches = range(0, len(written), BATCH)
    found = [bleu.corpus_score(written[at : at + BATCH], [gold[at : at + BATCH]]).score for at in batches]
    return np.array(found, dtype=np.float64)


BATCH_BLEU = BatchBleu()
