"""What the report says of two groups of languages and SQL cannot work out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy import stats

from jobs.metrics.significance import holm, mcnemar

STUDENT = 1000
"""Lists up to this length have a quantile; longer ones are judged by that of this length."""


def student_quantiles() -> pa.Table:
    """Return `n` and `t`: of n values, half the mean's 95 % interval is t times their standard error."""
    n = np.arange(2, STUDENT + 1)
    return pa.table({"n": pa.array(n, pa.int64()), "t": stats.t.ppf(0.975, n - 1)})


def with_tests(found: pa.Table) -> pa.Table:
    """Replace the lists `low` and `high` by the difference of their means (low less high), its g and its p-value."""
    rows = []
    for row in found.to_pylist():
        low, high = row.pop("low"), row.pop("high")
        test = {
            "difference": float(np.mean(low) - np.mean(high)),
            "g": hedges_g(low, high),
            "p": permutation(low, high),
        }
        rows.append({**row, **test})
    kept = [field for field in found.schema if field.name not in ("low", "high")]
    schema = pa.schema([*kept, *((name, pa.float64()) for name in ("difference", "g", "p"))])
    return pa.Table.from_pylist(rows, schema=schema)


def with_mcnemar(counts: pa.Table) -> pa.Table:
    """Append McNemar's exact `p` of `only_own` and `only_control`, and `p_holm`, corrected over the languages."""
    rows = [{**row, "p": mcnemar(row["only_own"], row["only_control"])} for row in counts.to_pylist()]
    for control in {row["control"] for row in rows}:
        family = [row for row in rows if row["control"] == control]
        for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = corrected
    schema = pa.schema([*counts.schema, ("p", pa.float64()), ("p_holm", pa.float64())])
    return pa.Table.from_pylist(rows, schema=schema)


def permutation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return SciPy's two-sided p-value of the difference of means, by exchanging members between the lists.

    All ways to exchange are tried where there are fewer than 10,000, else so many, seeded. None where a list has fewer
    than two members.
    """
    if min(len(first), len(second)) < 2:
        return None
    found = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def hedges_g(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the standardized difference of means (Hedges 1981).

    In units of the pooled standard deviation, corrected for short lists; None where a list has one member, or both no
    spread.
    """
    free = len(first) + len(second) - 2
    if min(len(first), len(second)) < 2:
        return None
    squares = float(np.var(first, ddof=1) * (len(first) - 1) + np.var(second, ddof=1) * (len(second) - 1))
    if squares == 0.0:
        return None
    return float(np.mean(first) - np.mean(second)) / math.sqrt(squares / free) * (1 - 3 / (4 * free - 1))
