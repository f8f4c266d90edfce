"""Average precision by its definition, threshold by threshold: for comparison."""

from __future__ import annotations

from collections.abc import Sequence


def direct_average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """Return sum over thresholds n, from the highest, of (recall_n - recall_(n-1)) * precision_n."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        accepted = [
            positive_score for positive_score, score in zip(positive, scores, strict=True) if score >= threshold
        ]
        previous, recall = recall, sum(accepted) / sum(positive)
        total += (recall - previous) * sum(accepted) / len(accepted)
    return total
