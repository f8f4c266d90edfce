"""Figures of language control: each way to steer to each target, and control against what it costs."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jobs.metrics.shift import Shift
from jobs.report.figures.drawing import Bars, Row, context, distinct, half_widths, panels, share_limits

PLOTS_IN_A_ROW = 5
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8, "handletextpad": 0.2, "columnspacing": 1.2}
_METHODS: dict[str, tuple[str, str, str]] = {
    "neurons": ("neurons", "#0072B2", "o"),
    "difference": ("neurons, patch difference", "#56B4E9", "s"),
    "diffmean": ("diffmean", "#009E73", "^"),
    "diffmean_raw": ("diffmean, raw", "#CC79A7", "<"),
    "prompt_en": ("prompt in English", "#E69F00", "D"),
    "prompt_native": ("prompt in the language", "#D55E00", "v"),
    "random": ("random neurons", "#7F7F7F", "X"),
    "difference random": ("random neurons, patch difference", "#7F7F7F", "P"),
    "diffmean random": ("random direction", "#7F7F7F", "*"),
    "diffmean_raw random": ("random direction, raw", "#7F7F7F", "p"),
    "unsteered": ("unsteered model", "#000000", "|"),
}
"""Label, colour and marker of each method, in the order of the legend. Methods that are not listed are not drawn."""
METHOD_LABELS = {method: label for method, (label, _, _) in _METHODS.items()}
_COLUMNS: tuple[tuple[str, str, float | None], ...] = (
    ("control", "control", None),
    ("quality", "quality of texts", None),
    ("accuracy", "accuracy\n(difference)", 0.0),
    ("nll", "nll\n(difference)", 0.0),
    ("lss", "LSS", Shift.no_effect),
)
"""Column, title, and the value of a method without effect."""
_SHARES = ("control", "lss")
TITLE_CHARACTERS = 28
"""Longest line of the title of a column."""


def method_dots(table: pa.Table) -> Figure:
    """Draw a band for each `target` with a line for each `method`, one plot for each measure that has values."""
    rows = [row for row in table.to_pylist() if row["method"] in _METHODS]
    columns = [column for column in _COLUMNS if any(row[column[0]] is not None for row in rows)]
    targets, methods = distinct(rows, "target"), _methods_of(rows)
    with context():
        titles = [_title(title, rows[0].get(f"{name}_is")) for name, title, _ in columns]
        lines = max(title.count("\n") for title in titles)
        height = 0.9 + 0.13 * lines + len(targets) * (0.12 + 0.09 * len(methods))
        figure = Figure(figsize=(9.6, height), layout="constrained")
        plots = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, title, (name, _, reference) in zip(plots, titles, columns, strict=True):
            _bands(axes, len(targets))
            if reference is not None:
                axes.axvline(reference, color="0.75", linewidth=0.9, zorder=0)
            _measure(axes, name, rows, targets, methods)
            axes.set_title(title, loc="left", fontsize=8)
            axes.tick_params(labelsize=8, length=2, top=True, labeltop=True)
            _scale(axes, name, [row[name] for row in rows if row[name] is not None])
        _unsteered_bars(plots[0], rows, targets)
        plots[0].set_yticks(range(len(targets)), targets)
        plots[0].set_ylim(len(targets) - 0.5, -0.5)
        if len(plots) > 1:  # a narrow page shows only a part of the figure
            plots[-1].tick_params(axis="y", labelright=True)
        shown = [*methods, "unsteered"] if columns[0][0] == "control" else methods
        figure.legend(handles=_legend(shown), loc="outside upper left", ncols=4, **_LEGEND)
        return figure


def control_and_cost(table: pa.Table) -> Figure:
    """Draw `control` over `cost`: a subfigure for each `panel`, a plot for each `target`, a point for each `method`."""
    by_panel = [(panel, [row for row in rows if row["method"] in _METHODS]) for panel, rows in panels(table)]
    heights = [1.0 + 1.5 * -(-len(distinct(rows, "target")) // PLOTS_IN_A_ROW) for _, rows in by_panel]
    with context():
        figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(by_panel), squeeze=False, height_ratios=heights)[:, 0]
        for part, (panel, rows) in zip(parts, by_panel, strict=True):
            targets = sorted(distinct(rows, "target"), key=lambda target: (target != "mean", target))
            across = min(PLOTS_IN_A_ROW, len(targets))
            plots = part.subplots(-(-len(targets) // across), across, sharex=True, sharey=True, squeeze=False)
            for axes in plots.flat[len(targets) :]:
                axes.set_visible(False)
            for axes in plots.flat[max(0, len(targets) - across) : len(targets)]:  # the lowest one of each column
                axes.tick_params(labelbottom=True)
            for axes, target in zip(plots.flat, targets, strict=False):
                _front(axes, [row for row in rows if row["target"] == target])
                axes.set_title(target, loc="left", pad=2, fontweight="bold")
                axes.tick_params(labelsize=7, length=2)
            plots[0, 0].set_xlim(*_cost_limits(rows))
            _few_numbers(plots[0, 0])  # the plots share their axis
            plots[0, 0].set_ylim(-0.05, 1.05)
            part.supxlabel(f"cost: {panel}", fontsize=8)
            part.supylabel("language control", fontsize=8)
            part.legend(handles=_legend(_methods_of(rows)), loc="outside upper left", ncols=4, **_LEGEND)
        return figure


def _methods_of(rows: list[Row]) -> list[str]:
    present = {row["method"] for row in rows}
    return [method for method in _METHODS if method in present]


def _title(title: str, metric: str | None) -> str:
    lines = [] if metric is None else [line for part in metric.split("; ") for line in part.split(": ", 1)]
    return "\n".join([title, *(wrapped for line in lines for wrapped in wrap(line, TITLE_CHARACTERS))])


def _scale(axes: Axes, name: str, values: list[float]) -> None:
    """Keep shares within 0 and 1; use a log scale for perplexities far apart."""
    if name in _SHARES:
        axes.set_xlim(share_limits(axes.get_xlim()))
    if name == "quality" and min(values) > 0 and max(values) > 30 * min(values):
        axes.set_xscale("log")
    else:
        _few_numbers(axes)


def _few_numbers(axes: Axes) -> None:
    """Write so few numbers below a narrow plot that they do not touch."""
    axes.locator_params(axis="x", nbins=3)
    axes.ticklabel_format(axis="x", scilimits=(-3, 4), useOffset=False)


def _bands(axes: Axes, count: int) -> None:
    """Shade every second row, so that the lines of a target are seen as one."""
    for position in range(0, count, 2):
        axes.axhspan(position - 0.5, position + 0.5, color="0.9", alpha=0.6, linewidth=0, zorder=-1)


def _measure(axes: Axes, name: str, rows: list[Row], targets: list[str], methods: list[str]) -> None:
    """Draw the values of a measure, each method on its own line in the band of the target."""
    for index, method in enumerate(methods):
        offset = ((index + 0.5) / len(methods) - 0.5) * 0.84
        points = [row for row in rows if row["method"] == method and row[name] is not None]
        _points(
            axes,
            method,
            x=[row[name] for row in points],
            y=[targets.index(row["target"]) + offset for row in points],
            x_bars=half_widths(points, name),
        )


def _unsteered_bars(axes: Axes, rows: list[Row], targets: list[str]) -> None:
    """Draw a bar across the band of each target at the language control of the unsteered model."""
    values = {targets.index(row["target"]): row["unsteered"] for row in rows if row["unsteered"] is not None}
    axes.vlines(
        list(values.values()),
        [position - 0.45 for position in values],
        [position + 0.45 for position in values],
        color="black",
        linewidth=1.2,
    )


def _front(axes: Axes, rows: list[Row]) -> None:
    """Draw the points of a target with intervals, and a line through those of the Pareto front."""
    front = sorted((row["cost"], row["control"]) for row in rows if row["on_front"])
    axes.plot(*zip(*front, strict=True), color="0.75", linewidth=1, zorder=0)
    for row in rows:
        x_bars, y_bars = half_widths([row], "cost"), half_widths([row], "control")
        _points(axes, row["method"], x=[row["cost"]], y=[row["control"]], x_bars=x_bars, y_bars=y_bars)


def _cost_limits(rows: list[Row]) -> tuple[float, float]:
    """Return limits that show the intervals of all targets. That of a mean over few targets may be cut off."""
    of_targets = [row for row in rows if row["target"] != "mean"]
    values = [row[name] for row in of_targets for name in ("cost", "cost_low", "cost_high") if row[name] is not None]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin


def _points(
    axes: Axes,
    method: str,
    *,
    x: list[float],
    y: list[float],
    x_bars: Bars,
    y_bars: Bars | None = None,
) -> None:
    _, colour, marker = _METHODS[method]
    axes.errorbar(x, y, xerr=x_bars, yerr=y_bars, fmt=marker, color=colour, markersize=4, elinewidth=0.8)


def _legend(methods: list[str]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", color=colour, marker=marker, markersize=4.5, label=label)
        for label, colour, marker in (_METHODS[method] for method in methods)
    ]
