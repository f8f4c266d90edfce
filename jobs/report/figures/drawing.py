"""Shared by all figures: a palette for colour-blind readers, style, panels, and self-contained SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ampsweep.domain.metric_names import headline_rank

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""The palette of Okabe and Ito, with a brown instead of the yellow, which is hard to see on white."""
MARKERS = "osD^vP*X"
WHOSE = ("own", "random", "other language", "own, set to 0", "non-language")
"""Whose neurons were edited, in the order of the legend."""
INK = dict(zip(WHOSE, ("#0072B2", "#7F7F7F", "#D55E00", "#009E73", "#CC79A7"), strict=True))
DASHES: dict[str, Any] = dict(zip(WHOSE, ("-", ":", "--", "-.", (0, (1, 3))), strict=True))
RC: dict[str, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "ampsweep",
    "pdf.fonttype": 42,  # text of the figure can be searched and edited
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_THEMED = {
    "stroke: #000000": "stroke: currentColor",
    "fill: #000000": "fill: currentColor",
    "#e6e6e6": "var(--faint, #e6e6e6)",
    "#bfbfbf": "var(--rule, #bfbfbf)",
}
"""Colours of a figure that follow the page's colour scheme, light or dark."""
MIN_WIDTH = "46rem"
Row = dict[str, Any]
Bars = NDArray[np.float64]
"""Lengths [2, n] of error bars below and above n values."""


def context() -> Any:
    """Return a context manager that sets the drawing style."""
    return mpl.rc_context(RC)


def panels(table: pa.Table) -> list[tuple[str, list[Row]]]:
    """Return the rows of each `panel` with its title, which also has its `items` if they are known.

    The panels of the metrics that a sweep is about come first (`ampsweep.domain.metric_names`).
    """
    rows = table.to_pylist()
    titles = sorted(distinct(rows, "panel"), key=lambda panel: headline_rank(metric_of(panel)))
    by_panel = [[row for row in rows if row["panel"] == panel] for panel in titles]
    return [(", ".join(filter(None, [group[0]["panel"], group[0].get("items")])), group) for group in by_panel]


def metric_of(panel: str) -> str:
    """Return the metric in the title of a panel, such as `xcopa (chat=True): accuracy` or `lss`."""
    (name,) = re.findall(r"(?:^|: )([^ :]+)(?= \(lower is better\)|$|[,)]| \((?:\w+=|defaults))", panel)[-1:] or [panel]
    return str(name)


def half_widths(rows: Sequence[Row], column: str) -> Bars:
    """Return the lengths [2, rows] of error bars: from each value down to `<column>_low`, and up to `<column>_high`.

    They are 0 where a value has no interval.
    """
    pairs = [(row[column], row[f"{column}_low"], row[f"{column}_high"]) for row in rows]
    bars = [(0.0, 0.0) if low is None or high is None else (value - low, high - value) for value, low, high in pairs]
    return np.maximum(np.array(bars, np.float64).reshape(-1, 2).T, 0.0)


def set_steady_limits(axes: Axes, which: str, values: Iterable[float | None]) -> None:
    """Give an axis whose values are all the same limits around the value; rounding errors would otherwise fill it.

    Args:
        axes: The plot.
        which: `x` or `y`.
        values: The values on the axis, bounds of intervals among them.
    """
    known = [value for value in values if value is not None]
    if known and max(known) - min(known) <= 1e-9 * max(1.0, abs(max(known)), abs(min(known))):
        middle = round(known[0], 9)
        reach = abs(middle) / 2 or 0.1
        axes.set(**{f"{which}lim": (middle - reach, middle + reach)})


def share_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of an axis of shares: within 0 and 1 with a margin, although an interval may be wider."""
    low, high = limits
    return max(low, -0.03), min(high, 1.03)


def distinct(rows: Iterable[Row], column: str) -> list[Any]:
    """Return the distinct values of a column, sorted."""
    return sorted({row[column] for row in rows})


def whose_of(rows: Iterable[Row]) -> list[str]:
    """Return the values of `whose` in the rows, in the order of WHOSE."""
    present = {row["whose"] for row in rows}
    return [whose for whose in WHOSE if whose in present]


def reference_line(axes: Axes, rows: Iterable[Row]) -> None:
    """Draw a line at the value of an intervention without effect: the rows' `reference`, 0 if they have none."""
    value = next((row["reference"] for row in rows if row.get("reference") is not None), 0.0)
    axes.axhline(value, color="0.75", linewidth=0.7, zorder=0)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element without a background; the same figure gives the same text.

    Black and the greys of lines and bands follow the colour scheme of the page. On a narrow page the figure is not
    reduced below a width at which it can be read; the page then scrolls it.
    """
    text = _saved(figure, "svg").decode()
    for colour, themed in _THEMED.items():
        text = text.replace(colour, themed)
    width = figure.get_size_inches()[0] * 72
    root = f'<svg fill="currentColor" style="min-width: min({MIN_WIDTH}, {width:.0f}pt)"'
    return text[text.index("<svg") :].replace("<svg", root, 1)


def svg_file(figure: Figure) -> bytes:
    """Return a figure as an SVG file on white; the same figure gives the same file."""
    return _saved(figure, "svg", background="white")


def pdf_file(figure: Figure) -> bytes:
    """Return a figure as a PDF file; the same figure gives the same file."""
    return _saved(figure, "pdf")


def _saved(figure: Figure, kind: str, *, background: str = "none") -> bytes:
    sink = io.BytesIO()
    date = {"svg": "Date", "pdf": "CreationDate"}[kind]
    with context():
        figure.savefig(sink, format=kind, metadata={date: None}, facecolor=background)
    figure.set_layout_engine("none")  # laying it out again would move its parts
    return sink.getvalue()
