"""Scores of answers of which an item may have several; intervals and tests take the item as the unit.

Answers to one prompt resemble each other, so resampling them one by one would make intervals too narrow. Each answer
contributes k numbers, which are summed by item; a score is a function of the totals over all items, such as a ratio of
two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult
from jobs.metrics.share import Truths
from jobs.statistics.bootstrap import RESAMPLES, Floats, batches, interval, is_point
from jobs.statistics.significance import EXACT_PAIRS, FLIPS, all_patterns
from jobs.statistics.tango import widened
from jobs.statistics.wilson import at_bound

Score = Callable[[Floats], Floats]
"""Returns the scores [...] of totals [..., k], NaN where they are undefined."""


def has_several_answers(samples: pa.Table) -> bool:
    """Return whether an item of a table with the column `doc_id` has more than one answer."""
    return len(set(samples["doc_id"].to_pylist())) < len(samples)


def sums_by_item(doc_ids: Iterable[Hashable], numbers: Floats) -> Floats:
    """Return the sums of each item's answers, [items, k], of the numbers of all answers, [n, k].

    Items are in the order in which their first answers come.
    """
    index: dict[Hashable, int] = {}
    rows = [index.setdefault(doc_id, len(index)) for doc_id in doc_ids]
    sums = np.zeros((len(index), numbers.shape[1]))
    np.add.at(sums, rows, numbers)
    return sums


def evaluate_sums(
    sums: Floats, score: Score, rng: np.random.Generator, *, denominator: int | None = None
) -> MetricResult:
    """Return the score of `sums` [items, k], with the percentile interval over resampled items.

    Args:
        sums: The sums of each item.
        score: The score of totals.
        rng: The source of the resamples.
        denominator: For scores from 0 to 1, the index of the sum that says whether an item counts. If the score is 0 or
            1, the interval is Wilson's over the items that count.
    """
    value = float(score(sums.sum(axis=0)))
    if not len(sums) or np.isnan(value):
        return MetricResult(n=0)
    low, high = _interval(np.concatenate([score(totals) for totals in _resampled(sums, rng)]))
    if denominator is not None:
        low, high = at_bound(value, _counted(sums, denominator), low, high)
    return MetricResult(n=len(sums), value=value, ci_low=low, ci_high=high)


def compare_sums(
    sums: Floats, plain: Floats, score: Score, rng: np.random.Generator, *, denominator: int | None = None
) -> MetricResult:
    """Return the score of `sums` [items, k], and its difference from that of `plain`, the same items' sums.

    Arguments as for `evaluate_sums`.
    The interval is over resampled items, each with its answers of both sides. The p-value is that of a permutation
    test that swaps the two sides of items: in all ways if at most EXACT_PAIRS items differ, otherwise in FLIPS random
    ways, the observed order among them. An undefined difference counts as one that is at least as large as the observed
    one.
    """
    result = evaluate_sums(sums, score, rng, denominator=denominator)
    if result.value is None:
        return result
    reached = float(score(plain.sum(axis=0)))
    if np.isnan(reached):
        return result
    delta, k = result.value - reached, sums.shape[1]
    both = np.concatenate([sums, plain], axis=1)
    resampled = [score(totals[:, :k]) - score(totals[:, k:]) for totals in _resampled(both, rng)]
    low, high = _interval(np.concatenate(resampled))
    standard_error = None
    if low is not None and high is not None and is_point(low, high):
        standard_error = 0.0
        if denominator is not None:
            low, high = widened(low, high, min(_counted(side, denominator) for side in (sums, plain)))
    return replace(
        result,
        baseline=reached,
        delta=delta,
        p_value=_swap_test(sums, plain, score, abs(delta), rng),
        delta_ci_low=low,
        delta_ci_high=high,
        delta_se=standard_error,
    )


def mean_of(totals: Floats) -> Floats:
    """Return the first of two totals [..., 2] divided by the second: a sum of values by the number of answers."""
    with np.errstate(invalid="ignore"):
        quotient: Floats = totals[..., 0] / totals[..., 1]
    return quotient


def evaluate_answers(
    values: Floats | Truths, doc_ids: Iterable[Hashable], rng: np.random.Generator, *, is_share: bool = False
) -> MetricResult:
    """Return the mean over answers of `values` [n]; its interval resamples the items that `doc_ids` names.

    Args:
        values: The values of the answers.
        doc_ids: The item of each answer.
        rng: The source of the resamples.
        is_share: Whether the values are from 0 to 1; the interval of a mean of 0 or 1 is then Wilson's over items.
    """
    return evaluate_sums(_values_and_counts(values, doc_ids), mean_of, rng, denominator=1 if is_share else None)


def compare_answers(
    values: Floats | Truths,
    plain: Floats | Truths,
    doc_ids: Iterable[Hashable],
    rng: np.random.Generator,
    *,
    is_share: bool = False,
) -> MetricResult:
    """Return the mean over answers of `values` [n], and its difference from that of `plain` [n], the same answers'.

    Arguments as for `evaluate_answers`.
    """
    ids = list(doc_ids)
    sums, plain_sums = _values_and_counts(values, ids), _values_and_counts(plain, ids)
    return compare_sums(sums, plain_sums, mean_of, rng, denominator=1 if is_share else None)


def _values_and_counts(values: Floats | Truths, doc_ids: Iterable[Hashable]) -> Floats:
    return sums_by_item(doc_ids, np.stack([values.astype(np.float64), np.ones(len(values))], axis=1))


def _resampled(sums: Floats, rng: np.random.Generator) -> Iterable[Floats]:
    """Yield totals of items drawn with replacement, [resamples, k], some resamples at a time.

    One multinomial draw of the count of each distinct row is equivalent to drawing items with replacement.
    """
    distinct, counts = np.unique(sums, axis=0, return_counts=True)
    for rows in batches(RESAMPLES, len(distinct)):
        yield rng.multinomial(len(sums), counts / len(sums), size=rows) @ distinct


def _interval(resampled: Floats) -> tuple[float | None, float | None]:
    defined = resampled[~np.isnan(resampled)]
    return interval(defined) if len(defined) else (None, None)


def _counted(sums: Floats, denominator: int) -> int:
    """Return the number of items that count."""
    return int((sums[:, denominator] > 0).sum())


def _swap_test(sums: Floats, plain: Floats, score: Score, observed: float, rng: np.random.Generator) -> float:
    total, plain_total = sums.sum(axis=0), plain.sum(axis=0)

    def is_extreme(moved: Floats) -> Truths:
        swapped = np.abs(score(total + moved) - score(plain_total - moved))
        extreme: Truths = ~(swapped < observed * (1 - 1e-12))
        return extreme

    changes = (plain - sums)[(plain != sums).any(axis=1)]
    if len(changes) <= EXACT_PAIRS:
        return float(is_extreme(all_patterns(len(changes)) @ changes).mean())
    differences, counts = np.unique(changes, axis=0, return_counts=True)
    extreme = 1
    for rows in batches(FLIPS - 1, len(differences)):
        extreme += int(is_extreme(rng.binomial(counts, 0.5, size=(rows, len(differences))) @ differences).sum())
    return extreme / FLIPS
