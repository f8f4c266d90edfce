from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.shift import Shift


def scores(*values: float) -> pa.Table:
    return pa.table({"score": pa.array(values, pa.float64())})


def test_lss_is_the_share_of_facts_that_shifted_and_ties_do_not_count() -> None:
    rng = np.random.default_rng(0)
    result = Shift().compare(scores(1.0, 2.0, 3.0, 0.0), scores(0.0, 2.0, 4.0, -1.0), rng)
    assert (result.n, result.value) == (4, 0.5)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert 0 <= result.ci_low < 0.5 < result.ci_high <= 1
    assert (result.baseline, result.delta, result.p_value) == (None, None, None)


def test_without_items_there_is_no_value() -> None:
    result = Shift().compare(scores(), scores(), np.random.default_rng(0))
    assert (result.n, result.value, result.ci_low) == (0, None, None)


def test_the_interval_of_facts_that_all_shifted_has_a_width() -> None:
    result = Shift().compare(scores(*[1.0] * 19), scores(*[0.0] * 19), np.random.default_rng(0))
    assert result.ci_low == pytest.approx(0.832, abs=1e-3)
    assert result.ci_high == 1.0
