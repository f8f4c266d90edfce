from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.accuracy import Accuracy


def verdicts(text: str) -> pa.Table:
    return pa.table({"correct": pa.array([letter == "1" for letter in text], pa.bool_())})


def test_accuracy_is_paired_with_its_baseline() -> None:
    verdict = Accuracy().compare(verdicts("11110000"), verdicts("11000000"), np.random.default_rng(0))
    assert (verdict.n, verdict.value, verdict.baseline, verdict.delta) == (8, 0.5, 0.25, 0.25)
    assert verdict.p_value == pytest.approx(0.5)
    assert verdict.delta_ci_low is not None
    assert verdict.delta_ci_high is not None
    assert verdict.delta_ci_low <= 0.25 <= verdict.delta_ci_high


def test_without_items_there_is_no_value() -> None:
    rng = np.random.default_rng(0)
    for verdict in (Accuracy().evaluate(verdicts(""), rng), Accuracy().compare(verdicts(""), verdicts(""), rng)):
        assert (verdict.n, verdict.value, verdict.ci_low) == (0, None, None)
