from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.accuracy import Accuracy
from jobs.statistics.tango import tango


def correctness(text: str) -> pa.Table:
    return pa.table({"correct": pa.array([letter == "1" for letter in text], pa.bool_())})


def test_accuracy_is_paired_with_its_baseline() -> None:
    result = Accuracy().compare(correctness("11110000"), correctness("11000000"), np.random.default_rng(0))
    assert (result.n, result.value, result.baseline, result.delta) == (8, 0.5, 0.25, 0.25)
    assert result.p_value == pytest.approx(0.5)
    assert result.delta_ci_low is not None
    assert result.delta_ci_high is not None
    assert result.delta_ci_low <= 0.25 <= result.delta_ci_high


def test_without_items_there_is_no_value() -> None:
    rng = np.random.default_rng(0)
    for result in (
        Accuracy().evaluate(correctness(""), rng),
        Accuracy().compare(correctness(""), correctness(""), rng),
    ):
        assert (result.n, result.value, result.ci_low) == (0, None, None)


def test_the_interval_of_a_share_is_wilsons_and_the_difference_stays_paired() -> None:
    result = Accuracy().evaluate(correctness("1" * 16), np.random.default_rng(0))
    assert result.ci_low == pytest.approx(0.806, abs=1e-3)
    assert result.ci_high == 1.0
    same = Accuracy().compare(correctness("1" * 16), correctness("1" * 16), np.random.default_rng(0))
    assert same.ci_low == result.ci_low
    assert (same.delta_ci_low, same.delta_ci_high) == tango(0.0, 16)
