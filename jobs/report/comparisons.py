"""Statistical tests of the report that SQL cannot compute: paired tests, permutation tests and effect sizes.

Functions of `scipy.special` take the place of those of `scipy.stats` that call them, because that module takes a second
to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy import special

from jobs.statistics.significance import holm, sign_flip

STUDENT = 1000
"""The largest number of values with a quantile in `student_quantiles`."""


def student_quantiles() -> pa.Table:
    """Return the columns `n` and `t`: half the 95 % interval of the mean of n values is t times its standard error."""
    n = np.arange(2, STUDENT + 1)
    return pa.table({"n": pa.array(n, pa.int64()), "t": special.stdtrit(n - 1, 0.975)})


def combined_p(
    p_values: Sequence[float | None] | None, deltas: Sequence[float | None] | None, widening: float
) -> float | None:
    """Return the two-sided p-value of several differences together, by Stouffer's method.

    A p-value counts for the direction of its difference. None if one of the values is missing.

    Args:
        p_values: Two-sided p-values of the differences.
        deltas: The differences.
        widening: Standard error of the mean difference, divided by that of independent differences: 1 if they are
            independent, and the root of their number if they are all the same.
    """
    pairs = list(zip(p_values or (), deltas or (), strict=True))
    increases = [p / 2 if delta > 0 else 1 - p / 2 for p, delta in pairs if p is not None and delta is not None]
    if not pairs or len(increases) < len(pairs):
        return None
    deviates = special.ndtri(np.clip(increases, 1e-300, 1 - 1e-16))
    rise = float(special.ndtr(deviates.sum() / math.sqrt(len(deviates)) / widening))
    return min(1.0, 2 * min(rise, 1 - rise))


def with_permutation_test(table: pa.Table) -> pa.Table:
    """Replace the lists `low` and `high` with the difference of their means (low minus high), its g and its p-value."""
    rows = []
    for row in table.to_pylist():
        low, high = row.pop("low"), row.pop("high")
        test = {
            "difference": float(np.mean(low) - np.mean(high)),
            "g": hedges_g(low, high),
            "p": permutation(low, high),
        }
        rows.append({**row, **test})
    fields = [field for field in table.schema if field.name not in ("low", "high")]
    schema = pa.schema([*fields, *((name, pa.float64()) for name in ("difference", "g", "p"))])
    return pa.Table.from_pylist(rows, schema=schema)


def with_sign_flips(counts: pa.Table) -> pa.Table:
    """Replace the lists `differences` with their p-value `p` and with `p_holm`, corrected over the languages.

    A list has a number for each fact: in how many base languages the own neurons shifted it, less the mean number over
    the draws of the control. The fact is the unit of the test, because answers about one fact in several base languages
    are not independent. With one base language and one draw the test is McNemar's.
    """
    rows = []
    for row in counts.to_pylist():
        differences = np.array(row.pop("differences"), dtype=np.float64)
        rows.append({**row, "p": sign_flip(differences, np.random.default_rng(0))})
    for control in {row["control"] for row in rows}:
        family = [row for row in rows if row["control"] == control]
        for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = corrected
    fields = [field for field in counts.schema if field.name != "differences"]
    schema = pa.schema([*fields, ("p", pa.float64()), ("p_holm", pa.float64())])
    return pa.Table.from_pylist(rows, schema=schema)


def permutation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p-value of a permutation test for the difference of means (`scipy.stats.permutation_test`).

    All permutations are tried if there are fewer than 10,000, otherwise 10,000 with a fixed seed. None if a list has
    fewer than two members.
    """
    if min(len(first), len(second)) < 2:
        return None
    from scipy.stats import permutation_test

    result = permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def hedges_g(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Hedges' g, the standardized difference of means (Hedges 1981).

    The difference is in units of the pooled standard deviation, with the correction for small samples. None if a list
    has one member, or if all values of each list are equal.
    """
    degrees_of_freedom = len(first) + len(second) - 2
    if min(len(first), len(second)) < 2:
        return None
    squares = float(np.var(first, ddof=1) * (len(first) - 1) + np.var(second, ddof=1) * (len(second) - 1))
    if squares <= (1e-12 * max(map(abs, (*first, *second)))) ** 2:  # equal values, but for rounding
        return None
    g = float(np.mean(first) - np.mean(second)) / math.sqrt(squares / degrees_of_freedom)
    return g * (1 - 3 / (4 * degrees_of_freedom - 1))
