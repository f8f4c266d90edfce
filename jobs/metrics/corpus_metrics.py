"""BLEU and chrF++ as sums over sentences: counts that add up to a corpus', and the score of such sums.

sacrebleu gives the score of a corpus; of a resampled one it would have to read every sentence again. Counts are made of
its public parts here, and the tests hold the scores of their sums to sacrebleu's own.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from jobs.metrics.bootstrap import Floats


class CorpusMetric(Protocol):
    """A metric of sacrebleu's, and what its score is made of."""

    @property
    def metric(self) -> Any:
        """The metric itself, an object of sacrebleu's."""
        ...

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return the counts of a sentence, [k]."""
        ...

    def score(self, totals: Floats) -> float:
        """Return the score, to 100, of a corpus whose counts add up to `totals`, [k]."""
        ...


class Bleu:
    """BLEU with one of sacrebleu's tokenizers; a corpus' counts are the sums of what it says of each sentence."""

    def __init__(self, tokenize: str) -> None:
        from sacrebleu.metrics import BLEU

        self.metric = BLEU(tokenize=tokenize, force=True)
        self._of_sentences = BLEU(tokenize=tokenize, force=True, effective_order=True)  # the same counts, no warning

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return n-grams that are right and all there are, n from 1 to 4, then both lengths."""
        found = self._of_sentences.sentence_score(written, [gold])
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    def score(self, totals: Floats) -> float:
        """Return BLEU with the exponential smoothing that is sacrebleu's default."""
        *both, written, gold = (int(count) for count in totals)
        orders = len(both) // 2
        found = self.metric.compute_bleu(both[:orders], both[orders:], written, gold, smooth_method="exp")
        return float(found.score)


class ChrfPlus:
    """chrF++ (Popović 2017): F2 of mean precision and recall over n-grams, of characters to 6 and of words to 2."""

    CHARACTERS, WORDS, BETA = 6, 2, 2

    def __init__(self) -> None:
        from sacrebleu.metrics import CHRF

        self.metric = CHRF(char_order=self.CHARACTERS, word_order=self.WORDS, beta=self.BETA)

    def counts(self, written: str, gold: str) -> Sequence[float]:
        """Return for each order the n-grams written, those of the gold text, and those in both."""
        found: list[float] = []
        for own, other in zip(self._ngrams(written), self._ngrams(gold), strict=True):
            found += [own.total() if other else 0, other.total(), (own & other).total()]
        return found

    def score(self, totals: Floats) -> float:
        """Return F2 over the orders that both texts have, as sacrebleu does."""
        written, gold, both = totals.reshape(-1, 3).T
        there = (written > 0) & (gold > 0)
        if not there.any():
            return 0.0
        precision, recall = (both[there] / written[there]).mean(), (both[there] / gold[there]).mean()
        weight = self.BETA**2
        return float(100 * (1 + weight) * precision * recall / (weight * precision + recall)) if precision else 0.0

    def _ngrams(self, text: str) -> Iterator[Counter[str]]:
        from sacrebleu.metrics.helpers import extract_all_char_ngrams, extract_word_ngrams

        yield from extract_all_char_ngrams(text, self.CHARACTERS)
        words = list(_words(text))
        for order in range(1, self.WORDS + 1):
            yield extract_word_ngrams(words, order)


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text, a mark at the end of one, else at its beginning, by itself."""
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            yield from (word[:-1], word[-1])
        elif len(word) > 1 and word[0] in string.punctuation:
            yield from (word[0], word[1:])
        else:
            yield word


def counts_of(metric: CorpusMetric, written: Sequence[str], gold: Sequence[str]) -> Floats:
    """Return each sentence's counts, [n, k]."""
    return np.array([metric.counts(own, other) for own, other in zip(written, gold, strict=True)], dtype=np.float64)
