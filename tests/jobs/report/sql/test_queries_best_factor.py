"""Which factor and which intervention the report calls the best, and how ties are decided."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs.report.sql.queries import (
    BEST,
    DOES_IT_WORK,
)
from jobs.results.best_factors import best_factors
from tests.jobs.report.control_sweep import (
    NEURONS,
    control_row,
    opened,
)


def test_the_best_factor_is_given_for_each_metric_and_side_with_its_ties(tmp_path: Path) -> None:
    rows = [
        control_row(task, metric, data, "fr", **{**NEURONS, "value": value, "factor": factor})
        for task, metric, data, values in (
            ("generation", "lfs", "en", (0.2, 0.9, 0.9)),
            ("generation", "lfs", "fr", (1.0, 0.1, 0.1)),  # French texts need no control
            ("xcopa", "accuracy", "fr", (0.6, 0.7, 0.4)),
            ("xcopa", "accuracy", "it", (0.5, 0.4, 0.55)),
            ("perplexity", "nll", "en", (5.0, 3.0, 4.0)),
            ("flores", "bleu", "fr", (10.0, 12.0, 14.0)),
        )
        for factor, value in zip((0.5, 1.0, 2.0), values, strict=True)
    ]
    rows += [{**row, "metric": "length", "higher_is_better": None} for row in rows if row["metric"] == "bleu"]
    with closing(opened(tmp_path, rows)) as data:
        best = [(row["panel"], row["factor"], row["tied"], row["value"]) for row in data.query(BEST).to_pylist()]
    assert best == [
        ("flores: bleu, in the language itself", 2.0, None, 14.0),
        ("generation: lfs, in other languages", 1.0, "2", 0.9),
        ("log-perplexity: nll (lower is better)", 1.0, None, 3.0),
        ("xcopa: accuracy, in other languages", 2.0, None, 0.55),
        ("xcopa: accuracy, in the language itself", 1.0, None, 0.7),
    ]


def test_the_best_factor_of_the_language_itself_is_not_that_of_the_others(tmp_path: Path) -> None:
    rows = [
        control_row(
            task,
            metric,
            data,
            "fr",
            **{**NEURONS, "value": value, "delta": value - 3.5, "baseline": 3.5, "factor": factor},
        )
        for task, metric, data, values in (
            ("perplexity", "nll", "fr", (4.0, 3.0, 9.0)),
            ("perplexity", "nll", "en", (1.0, 2.0, 3.0)),
            ("flores", "bleu", "fr", (4.0, 3.0, 9.0)),
        )
        for factor, value in zip((0.5, 1.0, 2.0), values, strict=True)
    ]
    with closing(opened(tmp_path, rows)) as data:
        columns = ("panel", "factor", "value", "unsteered")
        best = [tuple(row[name] for name in columns) for row in data.query(BEST).to_pylist()]
    assert best == [
        ("flores: bleu, in the language itself", 2.0, 9.0, 3.5),
        ("log-perplexity: nll (lower is better), in other languages", 0.5, 1.0, 3.5),
        ("log-perplexity: nll (lower is better), in the language itself", 1.0, 3.0, 3.5),
    ]


def saturated(
    *,
    controls: tuple[float | None, ...],
    losses: tuple[float, ...] = (),
    shifts: tuple[float | None, ...] = (1.0, 1.0, 1.0),
) -> list[dict[str, Any]]:
    """Return rows of three factors with these LSS, language control and negative log-likelihood (4 unsteered) in fr."""
    own = {**NEURONS, "neurons": 4}
    rows: list[dict[str, Any]] = []
    for index, factor in enumerate((-0.1, 0.0, 3.0)):
        for base in ("en", "ru"):
            if shifts[index] is not None:
                rows.append(control_row("lss", "lss", base, "fr", **own | {"factor": factor, "value": shifts[index]}))
            if controls and controls[index] is not None:
                values = {"factor": factor, "value": controls[index], "baseline": 0.0, "delta": controls[index]}
                rows.append(control_row("generation", "lfs", base, "fr", **own | values))
        if losses:
            values = {"factor": factor, "value": losses[index], "baseline": 4.0, "delta": losses[index] - 4}
            rows.append(control_row("perplexity", "nll", "fr", "fr", **own | values))
    return rows


def without(rows: list[dict[str, Any]], metric: str, data: str, factor: float) -> list[dict[str, Any]]:
    """Return the rows without that of a metric in one data language at one factor."""
    left_out = (metric, data, factor)
    kept = [row for row in rows if (row["metric"], row["data_language"], row["factor"]) != left_out]
    assert len(kept) == len(rows) - 1
    return kept


@pytest.mark.parametrize(
    ("rows", "factor"),
    [
        (saturated(controls=(0.0, 0.25, 1.0)), 3.0),
        (saturated(controls=(0.0, 0.25, 0.1)), 0.0),
        (saturated(controls=(0.0, 0.25, 1.0), shifts=(1.0, 1.0, 0.9)), 0.0),
        (saturated(controls=(0.0, 0.25, 1.0), shifts=(0.8, None, 0.9)), 3.0),
        (saturated(controls=(0.5, 0.5, 0.5), losses=(4.0, 5.0, 3.0)), 3.0),
        (saturated(controls=(), losses=(4.0, 3.0, 3.5)), 0.0),
        (saturated(controls=(None, 0.5, 0.5)), 0.0),
        (saturated(controls=()), -0.1),
        (without(saturated(controls=(), shifts=(1.0, 0.5, 0.6)), "lss", "ru", -0.1), 3.0),
        (without(saturated(controls=(0.1, 0.2, 1.0)), "lfs", "ru", 3.0), 0.0),
    ],
    ids=(
        *("control", "less-control", "lss-first", "lss-missing", "gain", "gain-alone", "control-missing", "smallest"),
        *("fewer-languages", "fewer-controls"),
    ),
)
def test_of_equally_good_interventions_control_then_gain_then_size_decides(
    rows: list[dict[str, Any]], factor: float, tmp_path: Path
) -> None:
    with closing(opened(tmp_path, rows)) as data:
        chosen = data.query("SELECT factor FROM chosen").to_pylist()
        shown = {row["factor"] for row in data.query(DOES_IT_WORK).to_pylist()}
        best = {row["panel"]: (row["factor"], row["tied"], row["incomplete"]) for row in data.query(BEST).to_pylist()}
    assert chosen == [{"factor": factor}]
    assert shown == {factor}
    (by_summary,) = best_factors(rows)
    assert by_summary["factor"] == factor, "the report and the summary agree"
    others = (", ".join(f"{other:g}" for other in by_summary[name]) or None for name in ("tied", "incomplete"))
    assert best["lss"] == (factor, *others)
