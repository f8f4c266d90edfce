from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.study import factors, methods

ROW = {"target_language": "fr", "selection": None, "rung": None, "n": 48, "ci_low": 0.1, "ci_high": 0.9}
NEURONS = {**ROW, "method": "neurons", "task": "lss", "metric": "lss"}


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    rows = [
        {**NEURONS, "rung": 1, "n": 12, "factor": 0.5, "value": 0.25},
        {**NEURONS, "rung": 1, "n": 12, "factor": 2.0, "value": 0.75},
        {**NEURONS, "rung": 2, "n": 24, "factor": 2.0, "value": 0.625},
        {**NEURONS, "factor": 2.0, "value": 0.5},
        {**NEURONS, "factor": 2.0, "value": 0.4, "selection": "random"},
        {**ROW, "method": "prompt_en", "factor": None, "task": "perplexity", "metric": "nll", "value": 4.0},
        {**ROW, "target_language": None, "method": None, "factor": None, "task": "x", "metric": "x", "value": 1.0},
        {
            **ROW,
            "method": "diffmean",
            "factor": 1.0,
            "task": "xcopa",
            "metric": "accuracy",
            "value": 0.5,
            "ci_low": None,
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "summary.parquet")
    return tmp_path / "summary.parquet"


def test_factors_are_listed_by_rung(summary: Path) -> None:
    assert factors(summary, "lss") == [
        "| target | 0.5, rung 1 | 2, rung 1 | 2, rung 2 |",
        "| --- | ---: | ---: | ---: |",
        "| fr | 0.25 (n 12) | 0.75 (n 12) | 0.62 (n 24) |",
    ]


def test_methods_are_listed_at_the_factor_that_was_kept(summary: Path) -> None:
    assert list(methods(summary))[2:] == [
        "| fr | diffmean | 1 |  |  | 0.50 |  |",
        "| fr | neurons | 2 | 0.50 (0.10 to 0.90) |  |  |  |",
        "| fr | prompt_en |  |  |  |  | 4.00 (0.10 to 0.90) |",
        "| fr | random neurons | 2 | 0.40 (0.10 to 0.90) |  |  |  |",
    ]
