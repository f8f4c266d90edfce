"""BLEU and chrF++ computed from counts of each sentence, which add up to the counts of a corpus.

sacrebleu would have to read every sentence again to score a resampled corpus. The counts here are computed with its
public functions, and tests compare the scores of their sums with those of sacrebleu.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jobs.statistics.bootstrap import Floats

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Signature

_ONE_REFERENCE = (("",),)
"""References for the constructor of a metric, whose signature has their number; those of a call replace them."""


class CorpusMetric(Hashable, Protocol):
    """A metric of sacrebleu and the counts that its score is computed from."""

    def signature(self) -> Signature:
        """Return sacrebleu's signature of the metric."""
        ...

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return the counts [k] of a sentence."""
        ...

    def score(self, totals: Floats) -> float:
        """Return the score, from 0 to 100, of a corpus whose counts add up to `totals` [k]."""
        ...


class Bleu:
    """BLEU with one of sacrebleu's tokenizers."""

    def __init__(self, tokenize: str) -> None:
        from sacrebleu.metrics import BLEU

        self._metric = BLEU(tokenize=tokenize, force=True, references=_ONE_REFERENCE)

    def signature(self) -> Signature:
        """Return sacrebleu's signature, with the tokenizer and its version."""
        return self._metric.get_signature()

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return the numbers of matching n-grams for n from 1 to 4, of all n-grams, and the lengths of both texts."""
        score = self._metric.corpus_score([written], [[gold]])  # `sentence_score` would warn of missing smoothing
        return [*score.counts, *score.totals, score.sys_len, score.ref_len]

    def score(self, totals: Floats) -> float:
        """Return BLEU with exponential smoothing, the default of sacrebleu."""
        *ngrams, written, gold = (int(count) for count in totals)
        orders = len(ngrams) // 2
        bleu = self._metric.compute_bleu(ngrams[:orders], ngrams[orders:], written, gold, smooth_method="exp")
        return float(bleu.score)


class ChrfPlus:
    """chrF++ (Popović 2017): F2 of mean precision and recall over character n-grams to n = 6 and words to n = 2."""

    CHARACTERS, WORDS, BETA = 6, 2, 2

    def __init__(self) -> None:
        from sacrebleu.metrics import CHRF

        orders = {"char_order": self.CHARACTERS, "word_order": self.WORDS}
        self._metric = CHRF(**orders, beta=self.BETA, references=_ONE_REFERENCE)

    def signature(self) -> Signature:
        """Return sacrebleu's signature, with the orders of n-grams."""
        return self._metric.get_signature()

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return for each order the numbers of n-grams in the written text, in the gold text, and in both."""
        counts: list[float] = []
        for in_written, in_gold in zip(self._ngrams(written), self._ngrams(gold), strict=True):
            counts += [in_written.total() if in_gold else 0, in_gold.total(), (in_written & in_gold).total()]
        return counts

    def score(self, totals: Floats) -> float:
        """Return F2 over the orders of which both texts have n-grams, as sacrebleu does."""
        orders, precision, recall = 0, 0.0, 0.0
        for written, gold, both in totals.reshape(-1, 3).tolist():
            if written and gold:
                orders, precision, recall = orders + 1, precision + both / written, recall + both / gold
        if not precision:
            return 0.0
        precision, recall, weight = precision / orders, recall / orders, self.BETA**2
        return 100 * ((1 + weight) * precision * recall / (weight * precision + recall))

    def _ngrams(self, text: str) -> Iterator[Counter[str]]:
        from sacrebleu.metrics.helpers import extract_all_char_ngrams, extract_word_ngrams

        yield from extract_all_char_ngrams(text, self.CHARACTERS)
        words = list(_words(text))
        for order in range(1, self.WORDS + 1):
            yield extract_word_ngrams(words, order)


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text. One punctuation mark at the end of a word, or else at its start, is its own word."""
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            yield from (word[:-1], word[-1])
        elif len(word) > 1 and word[0] in string.punctuation:
            yield from (word[0], word[1:])
        else:
            yield word


def counts_of(metric: CorpusMetric, written: Sequence[str], gold: Sequence[str]) -> Floats:
    """Return the counts [n, k] of n sentences."""
    pairs = zip(written, gold, strict=True)
    return np.array([metric.counts(text, reference) for text, reference in pairs], dtype=np.float64)
