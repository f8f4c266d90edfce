"""Curves over factors and layers: a small plot for each target language, so that eighteen of them stay readable."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jobs.metrics.shift import Shift
from jobs.report.figures.drawing import (
    DASHES,
    MARKERS,
    PALETTE,
    Row,
    context,
    distinct,
    half_widths,
    panels,
    reference_line,
    set_steady_limits,
    share_limits,
    whose_of,
)

PLOTS_IN_A_ROW = 5


def curves(table: pa.Table, *, x_label: str, y_label: str) -> Figure:
    """Draw `y` over `x` with a band from `y_low` to `y_high`: a subfigure for each `panel`, a plot for each `target`.

    The colour shows the `intervention`, the line style shows `whose` neurons were edited.

    Returns:
        The figure.
    """
    by_panel = panels(table)
    heights = [0.8 + 1.35 * _row_count(rows) for _, rows in by_panel]
    with context():
        figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(by_panel), squeeze=False, height_ratios=heights)[:, 0]
        for part, (panel, rows) in zip(parts, by_panel, strict=True):
            targets, kinds = distinct(rows, "target"), distinct(rows, "intervention")
            plots = part.subplots(
                _row_count(rows), min(PLOTS_IN_A_ROW, len(targets)), sharex=True, sharey=True, squeeze=False
            )
            for axes in plots.flat[len(targets) :]:
                axes.set_visible(False)
            for axes, target in zip(plots.flat, targets, strict=False):
                _plot(axes, [row for row in rows if row["target"] == target], kinds)
                axes.set_title(target, loc="left", pad=2, fontweight="bold")
            seen = [row[name] for row in rows for name in ("y", "y_low", "y_high", "reference")]
            set_steady_limits(plots[0, 0], "y", seen)
            if rows[0]["reference"] == Shift.no_effect:  # LSS is a share
                plots[0, 0].set_ylim(share_limits(plots[0, 0].get_ylim()))
            part.suptitle(panel, x=0.01, ha="left", fontsize=10)
            part.supxlabel(x_label, x=0.06, ha="left", fontsize=8)
            part.supylabel(y_label, fontsize=8)
            part.legend(
                handles=_legend(rows, kinds),
                loc="outside lower right",
                ncols=6,
                frameon=False,
                fontsize=8,
                handlelength=2.4,
            )
        return figure


def _row_count(rows: list[Row]) -> int:
    return -(-len(distinct(rows, "target")) // PLOTS_IN_A_ROW)


def _plot(axes: Axes, rows: list[Row], kinds: list[str]) -> None:
    reference_line(axes, rows)
    for index, kind in enumerate(kinds):
        for whose in whose_of(rows):
            points = [row for row in rows if row["intervention"] == kind and row["whose"] == whose]
            if not points:
                continue
            x, y = [row["x"] for row in points], np.array([row["y"] for row in points])
            colour, is_own = PALETTE[index % len(PALETTE)], whose == "own"
            axes.plot(
                x,
                y,
                linestyle=DASHES[whose],
                marker=MARKERS[index % len(MARKERS)],
                markersize=3 if is_own else 1.5,
                linewidth=1.4 if is_own else 0.9,
                color=colour,
            )
            below, above = half_widths(points, "y")
            if is_own and (below.any() or above.any()):
                known = [row["y_low"] is not None for row in points]
                axes.fill_between(x, y - below, y + above, where=known, color=colour, alpha=0.15, linewidth=0)
    axes.tick_params(labelsize=7, length=2)


def _legend(rows: list[Row], kinds: list[str]) -> list[Line2D]:
    colours = [
        Line2D([], [], color=colour, marker=marker, markersize=3, label=kind)
        for kind, colour, marker in zip(kinds, cycle(PALETTE), cycle(MARKERS), strict=False)
    ]
    styles = [Line2D([], [], color="black", linestyle=DASHES[whose], label=whose) for whose in whose_of(rows)]
    return [*colours, *styles]
