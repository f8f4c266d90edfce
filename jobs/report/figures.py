"""Answers as pictures, in SVG that stands in a page by itself. Colours are told apart by colour-blind readers too."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours for categories, yellow changed for a brown that shows on white."""
MARKERS = "osD^vP*X"
_STYLES = ("-", "--", ":", "-.")
_RC = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "ampsweep",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Row = dict[str, Any]


def heat_map(
    found: pa.Table,
    *,
    rows: str,
    columns: str,
    low: float | None = None,
    high: float | None = None,
    middle: float | None = None,
    whole: bool = False,
) -> str:
    """Draw `row`, `column`, `value` as a grid with the values written in; white cells have none.

    With a `middle` the colours diverge from it. `whole` numbers are written without decimals.
    """
    across, down = _distinct(found, "column"), _distinct(found, "row")
    grid = np.full((len(down), len(across)), np.nan)
    for row in found.to_pylist():
        if row["value"] is not None:
            grid[down.index(row["row"]), across.index(row["column"])] = row["value"]
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(1.6 + 0.46 * len(across), 1.1 + 0.3 * len(down)), layout="constrained")
        axes = figure.subplots()
        colours = mpl.colormaps["viridis" if middle is None else "RdBu_r"]
        image = axes.imshow(grid, cmap=colours, vmin=low, vmax=high, aspect="auto")
        axes.set_xticks(range(len(across)), [str(name) for name in across])
        axes.set_yticks(range(len(down)), [str(name) for name in down])
        axes.set_xlabel(columns)
        axes.set_ylabel(rows)
        axes.spines[:].set_visible(False)
        for (y, x), value in np.ndenumerate(grid):
            if not np.isnan(value):
                red, green, blue, _ = colours(image.norm(value))
                ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
                text = f"{value:.0f}" if whole else f"{value:.2f}"
                axes.text(x, y, text, ha="center", va="center", fontsize=7, color=ink)
        return _svg(figure)


def curves(found: pa.Table) -> str:
    """Draw `y` with the band y +- `half` over `x`: a panel a `panel` and eight lines, a colour a `line`."""
    return _lines(found, x_label="factor", band=True)


def profile(found: pa.Table) -> str:
    """Draw `y` over the layer `x`: a panel a `panel` and eight lines, a colour a `line`, a dash a `style`."""
    return _lines(found, x_label="layer", band=False)


def scatter(found: pa.Table) -> str:
    """Draw `self` over `cross` with their intervals: a panel a `panel`, a letter's colour a kind of `neurons`."""
    panels = _distinct(found, "panel")
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 3.6 * len(panels)), layout="constrained")
        for axes, panel in zip(np.atleast_1d(figure.subplots(len(panels))), panels, strict=True):
            own = [row for row in found.to_pylist() if row["panel"] == panel]
            for at, kind in enumerate(_kinds(own, "neurons")):
                points = [row for row in own if row["neurons"] == kind]
                x, y = [row["cross"] for row in points], [row["self"] for row in points]
                reach = [[max(0.0, row["self"] - row["self_low"]) for row in points]]
                reach.append([max(0.0, row["self_high"] - row["self"]) for row in points])
                axes.errorbar(
                    x, y, yerr=reach, fmt=MARKERS[at], color=PALETTE[at], label=kind, elinewidth=0.6, markersize=4
                )
                for row in points if kind == "language-specific" else []:
                    axes.annotate(f"{row['target']} {row['factor']:g}", (row["cross"], row["self"]), fontsize=6)
            _zero_lines(axes, both=True)
            axes.set_title(panel, loc="left")
            axes.set_xlabel("cross: mean difference in the other languages")
            axes.set_ylabel("self: difference in the language")
            axes.legend(frameon=False, fontsize=7)
        return _svg(figure)


def bars(found: pa.Table) -> str:
    """Draw `y` +- `half` a `label`, side by side for each `series`: a panel a `panel`."""
    panels = _distinct(found, "panel")
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 2.2 * len(panels)), layout="constrained")
        for axes, panel in zip(np.atleast_1d(figure.subplots(len(panels))), panels, strict=True):
            own = [row for row in found.to_pylist() if row["panel"] == panel]
            labels, series = _kinds(own, "label"), _kinds(own, "series")
            thick = 0.8 / len(series)
            for at, name in enumerate(series):
                points = [row for row in own if row["series"] == name]
                y = [labels.index(row["label"]) + at * thick for row in points]
                reach = [row["half"] for row in points]
                axes.barh(y, [row["y"] for row in points], thick, xerr=reach, color=PALETTE[at], label=name)
            middle = thick * (len(series) - 1) / 2
            axes.set_yticks([at + middle for at in range(len(labels))], labels)
            axes.set_title(panel, loc="left")
            axes.legend(frameon=False, fontsize=7)
        return _svg(figure)


def _lines(found: pa.Table, *, x_label: str, band: bool) -> str:
    panels = [
        (panel, lines[at : at + len(PALETTE)])
        for panel in _distinct(found, "panel")
        for lines in [_kinds([row for row in found.to_pylist() if row["panel"] == panel], "line")]
        for at in range(0, len(lines), len(PALETTE))
    ]
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 2.9 * len(panels)), layout="constrained")
        for axes, (panel, lines) in zip(np.atleast_1d(figure.subplots(len(panels))), panels, strict=True):
            own = [row for row in found.to_pylist() if row["panel"] == panel and row["line"] in lines]
            for at, line in enumerate(lines):
                for dash, style in zip(_STYLES, _kinds(own, "style"), strict=False):
                    points = [row for row in own if row["line"] == line and row["style"] == style]
                    x, y = [row["x"] for row in points], np.array([row["y"] for row in points])
                    main = style == "language-specific"
                    axes.plot(
                        x, y, dash, marker=MARKERS[at], markersize=3, color=PALETTE[at], label=line if main else None
                    )
                    if band and main:
                        half = np.array([row["half"] for row in points])
                        axes.fill_between(x, y - half, y + half, color=PALETTE[at], alpha=0.12, linewidth=0)
            _zero_lines(axes)
            axes.set_title(panel, loc="left")
            axes.set_xlabel(x_label)
            axes.legend(frameon=False, fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
        return _svg(figure)


def _zero_lines(axes: Axes, *, both: bool = False) -> None:
    axes.axhline(0, color="0.7", linewidth=0.6, zorder=0)
    if both:
        axes.axvline(0, color="0.7", linewidth=0.6, zorder=0)


def _distinct(found: pa.Table, column: str) -> list[Any]:
    return sorted(set(found[column].to_pylist()))


def _kinds(rows: list[Row], column: str) -> list[str]:
    """Return the distinct values, the neurons of the language before all controls."""
    return sorted({row[column] for row in rows}, key=lambda value: (value != "language-specific", value))


def _svg(figure: Figure) -> str:
    sink = io.StringIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    text = sink.getvalue()
    return text[text.index("<svg") :]
