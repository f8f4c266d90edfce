from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from jobs.report.figures.drawing import half_widths, metric_of, set_steady_limits


@pytest.mark.parametrize(
    ("panel", "metric"),
    [
        ("lss", "lss"),
        ("lss (facts=any)", "lss"),
        ("lss (defaults)", "lss"),
        ("log-perplexity: nll (lower is better)", "nll"),
        ("generation (n=5, temperature=0.3): in_target_language", "in_target_language"),
        ("lm_eval:mmlu: acc,none", "acc,none"),
        ("loss of accuracy (xcopa: accuracy, n = 100)", "accuracy"),
    ],
)
def test_a_panel_names_its_metric(panel: str, metric: str) -> None:
    assert metric_of(panel) == metric


def test_error_bars_may_have_two_lengths_and_none_without_an_interval() -> None:
    rows = [{"y": 0.75, "y_low": 0.5, "y_high": 1.0}, {"y": 1.0, "y_low": 0.5, "y_high": 1.0}]
    rows.append({"y": 0.5, "y_low": None, "y_high": None})  # type: ignore[dict-item]
    assert half_widths(rows, "y").tolist() == [[0.25, 0.5, 0.0], [0.25, 0.0, 0.0]]


def test_rounding_errors_do_not_fill_an_axis() -> None:
    axes = Figure().subplots()
    set_steady_limits(axes, "y", [0.0, 1e-17, None])
    assert axes.get_ylim() == (-0.1, 0.1)
    set_steady_limits(axes, "x", [24.0, 24.0])
    assert axes.get_xlim() == (12.0, 36.0)
    set_steady_limits(axes, "y", [0.0, 0.3])
    assert axes.get_ylim() == (-0.1, 0.1), "left as they are"
