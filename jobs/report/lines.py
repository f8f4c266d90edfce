"""Curves over factors and layers: a small picture a target language, so that eighteen of them stay readable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jobs.report.drawing import DASHES, MARKERS, PALETTE, Row, context, distinct, panels, reference_line, svg, whose_of

ACROSS = 5
"""Small pictures in a row."""


def curves(found: pa.Table, *, x_label: str, y_label: str) -> str:
    """Draw `y` over `x` with the band y +- `half`: a part a `panel`, a picture a `target`.

    A colour is an `intervention`, a dash is `whose` neurons were edited.
    """
    each = panels(found)
    heights = [0.6 + 1.35 * _down(rows) for _, rows in each]
    with context():
        figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(each), squeeze=False, height_ratios=heights)[:, 0]
        for part, (panel, rows) in zip(parts, each, strict=True):
            targets, kinds = distinct(rows, "target"), distinct(rows, "intervention")
            pictures = part.subplots(_down(rows), min(ACROSS, len(targets)), sharex=True, sharey=True, squeeze=False)
            for axes in pictures.flat[len(targets) :]:
                axes.set_visible(False)
            for axes, target in zip(pictures.flat, targets, strict=False):
                _picture(axes, [row for row in rows if row["target"] == target], kinds)
                axes.set_title(target, loc="left", pad=2, fontweight="bold")
            part.suptitle(panel, x=0.01, ha="left", fontsize=10)
            part.supxlabel(x_label, fontsize=8)
            part.supylabel(y_label, fontsize=8)
            part.legend(
                handles=_legend(rows, kinds), loc="upper right", ncols=6, frameon=False, fontsize=8, handlelength=2.4
            )
        return svg(figure)


def _down(rows: list[Row]) -> int:
    return -(-len(distinct(rows, "target")) // ACROSS)


def _picture(axes: Axes, rows: list[Row], kinds: list[str]) -> None:
    reference_line(axes, rows)
    for at, kind in enumerate(kinds):
        for whose in whose_of(rows):
            points = [row for row in rows if row["intervention"] == kind and row["whose"] == whose]
            if not points:
                continue
            x, y = [row["x"] for row in points], np.array([row["y"] for row in points])
            colour, own = PALETTE[at % len(PALETTE)], whose == "own"
            axes.plot(
                x,
                y,
                DASHES[whose],
                marker=MARKERS[at % len(MARKERS)],
                markersize=3 if own else 1.5,
                linewidth=1.4 if own else 0.9,
                color=colour,
            )
            half = np.array([row["half"] if row["half"] is not None else 0.0 for row in points])
            if own and half.any():
                axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
    axes.tick_params(labelsize=7, length=2)


def _legend(rows: list[Row], kinds: list[str]) -> list[Line2D]:
    colours = [
        Line2D([], [], color=PALETTE[at % len(PALETTE)], marker=MARKERS[at % len(MARKERS)], markersize=3, label=kind)
        for at, kind in enumerate(kinds)
    ]
    styles = [Line2D([], [], color="black", linestyle=DASHES[whose], label=whose) for whose in whose_of(rows)]
    return [*colours, *styles]
