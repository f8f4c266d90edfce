"""Dot plots: a language and its controls, self against cross, gain against cost, classes of languages."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.metrics.shift import Shift
from jobs.report.figures.drawing import (
    INK,
    MARKERS,
    PALETTE,
    WHOSE,
    Row,
    context,
    distinct,
    half_widths,
    panels,
    reference_line,
    set_steady_limits,
    whose_of,
)

MAX_LABELS = 6
"""The dots of a column have names if there are no more than these."""
LABEL_HEIGHT = 0.07
"""Height of a name, as a share of that of the plot."""
_MARK = dict(zip(INK, MARKERS, strict=False))
_CONTROL_NAMES = {
    "random": "random",
    "other": "other language",
    "zero": "own, set to 0",
    "non_language": "non-language",
}


def control_dots(table: pa.Table) -> Figure:
    """Draw one line for each `language`: LSS with its `own` neurons, and `controlled` for each `control`."""
    rows = table.to_pylist()
    languages = distinct(rows, "language")
    values = {("own", row["language"]): row["own"] for row in rows}
    values |= {(_CONTROL_NAMES[row["control"]], row["language"]): row["controlled"] for row in rows}
    with context():
        figure = Figure(figsize=(6.4, 1.0 + 0.24 * len(languages)), layout="constrained")
        axes = figure.subplots()
        axes.hlines(range(len(languages)), 0, 1, color="0.9", linewidth=0.7, zorder=0)
        axes.axvline(Shift.no_effect, color="0.75", linewidth=0.7, zorder=0)
        for whose in WHOSE[::-1]:
            points = [(value, languages.index(code)) for (kind, code), value in values.items() if kind == whose]
            if points:
                axes.plot(*zip(*points, strict=True), _MARK[whose], color=INK[whose], label=whose, markersize=5)
        axes.set_yticks(range(len(languages)), languages)
        axes.invert_yaxis()
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(f"LSS, {rows[0]['items']} pairs of fact and base language")
        axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=3, bbox_to_anchor=(0, 1))
        return figure


def self_and_cross(table: pa.Table) -> Figure:
    """Draw `self` and `cross` with intervals: one line for each `target`, one subfigure for each `panel`."""
    by_panel = panels(table)
    heights = [0.9 + 0.22 * len(distinct(rows, "target")) for _, rows in by_panel]
    with context():
        figure = Figure(figsize=(7.6, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(by_panel), squeeze=False, height_ratios=heights)[:, 0]
        for part, (panel, rows) in zip(parts, by_panel, strict=True):
            targets = distinct(rows, "target")
            for axes, side in zip(part.subplots(1, 2, sharey=True), ("self", "cross"), strict=True):
                axes.axvline(0, color="0.75", linewidth=0.7, zorder=0)
                for whose in reversed(whose_of(rows)):
                    points = [row for row in rows if row["whose"] == whose and row[side] is not None]
                    y = [targets.index(row["target"]) for row in points]
                    axes.errorbar(
                        [row[side] for row in points],
                        y,
                        xerr=half_widths(points, side) if whose == "own" else None,
                        fmt=_MARK[whose],
                        color=INK[whose],
                        label=whose,
                        markersize=4.5 if whose == "own" else 3.5,
                        elinewidth=1,
                        alpha=1.0 if whose == "own" else 0.6,
                    )
                axes.set_yticks(range(len(targets)), targets)
                axes.locator_params(axis="x", nbins=4)
                axes.ticklabel_format(axis="x", scilimits=(-3, 4), useOffset=False)
                set_steady_limits(axes, "x", [0.0, *(row[name] for row in rows for name in _bounds(side))])
                axes.set_title(f"{side}: difference in the {'language itself' if side == 'self' else 'others'}")
            axes.set_ylim(len(targets) - 0.5, -0.5)
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
            part.suptitle(panel, x=0.01, ha="left", fontsize=10)
        return figure


def _bounds(column: str) -> tuple[str, str, str]:
    return column, f"{column}_low", f"{column}_high"


def gain_and_cost(table: pa.Table) -> Figure:
    """Draw `cost` over `gain`, one plot for each `panel`: a dot for each target, a line through the means."""
    by_panel = panels(table)
    with context():
        figure = Figure(figsize=(6.8, 3.2 * len(by_panel)), layout="constrained")
        for axes, (panel, rows) in zip(np.atleast_1d(figure.subplots(len(by_panel))), by_panel, strict=True):
            for index, kind in enumerate(distinct(rows, "intervention")):
                points = [row for row in rows if row["intervention"] == kind]
                colour, mark = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
                gains, costs = ([row[name] for row in points] for name in ("gain", "cost"))
                axes.plot(gains, costs, ".", color=colour, alpha=0.3)
                means = [(factor, *_means(points, factor)) for factor in distinct(points, "factor")]
                axes.plot([x for _, x, _ in means], [y for *_, y in means], f"{mark}-", color=colour, label=kind)
                for factor, x, y in means:
                    offset = (5, 5) if index % 2 == 0 else (5, -10)
                    axes.annotate(
                        f"{factor:g}", (x, y), xytext=offset, textcoords="offset points", fontsize=8, color=colour
                    )
            reference_line(axes, rows)
            set_steady_limits(axes, "x", [row["gain"] for row in rows])
            set_steady_limits(axes, "y", [0.0, *(row["cost"] for row in rows)])
            axes.set_title(panel, loc="left")
            axes.set_xlabel(f"gain: {rows[0]['gain_is']}")
            axes.set_ylabel("mean improvement\nin the other languages")
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def strip_plot(table: pa.Table) -> Figure:
    """Draw `y` by resource `class`, one plot for each `panel`: a dot for each `language`, a bar at the mean."""
    by_panel = panels(table)
    with context():
        figure = Figure(figsize=(6.8, 2.5 * len(by_panel)), layout="constrained")
        for axes, (panel, rows) in zip(np.atleast_1d(figure.subplots(len(by_panel))), by_panel, strict=True):
            classes, kinds = distinct(rows, "class"), whose_of(rows)
            for column, name in enumerate(classes):
                for index, whose in enumerate(kinds):
                    points = [row for row in rows if row["class"] == name and row["whose"] == whose]
                    if points:
                        x = column + (index - (len(kinds) - 1) / 2) * 0.25
                        _strip(axes, x, points, whose, in_legend=column == 0)
            reference_line(axes, rows)
            set_steady_limits(axes, "y", [row["y"] for row in rows])
            for column, name in enumerate(classes):
                own = [row for row in rows if row["class"] == name and row["whose"] == "own"]
                if len(own) <= MAX_LABELS:
                    _label(axes, column - (len(kinds) - 1) / 2 * 0.25, own)
            axes.set_xticks(range(len(classes)), [f"{name}-resource" for name in classes])
            axes.set_xlim(-0.6, len(classes) - 0.4)
            axes.set_title(panel, loc="left")
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def _strip(axes: Axes, x: float, rows: list[Row], whose: str, *, in_legend: bool) -> None:
    values = [row["y"] for row in rows]
    label = whose if in_legend else None
    axes.plot([x] * len(values), values, _MARK[whose], color=INK[whose], alpha=0.55, markersize=4, label=label)
    mean = float(np.mean(values))
    axes.hlines(mean, x - 0.09, x + 0.09, color=INK[whose], linewidth=2)


def _label(axes: Axes, x: float, rows: list[Row]) -> None:
    """Name the dots of a column at their left, from the lowest to the highest, so that no name covers another."""
    low, high = axes.get_ylim()
    gap = LABEL_HEIGHT * (high - low)
    ordered = sorted(rows, key=lambda row: float(row["y"]))
    heights: list[float] = []
    for row in ordered:
        heights.append(max(row["y"], heights[-1] + gap) if heights else row["y"])
    shift = (heights[-1] - ordered[-1]["y"]) / 2 if heights else 0.0
    for row, height in zip(ordered, heights, strict=True):
        axes.annotate(row["language"], (x - 0.1, height - shift), fontsize=7, ha="right", va="center")


def _means(rows: list[Row], factor: float) -> tuple[float, float]:
    """Return the mean gain and the mean cost of a factor."""
    points = [row for row in rows if row["factor"] == factor]
    return float(np.mean([row["gain"] for row in points])), float(np.mean([row["cost"] for row in points]))
