"""Heat maps: languages by languages, and languages by layers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ampsweep.domain.metric_names import is_share
from jobs.report.figures.drawing import Row, context, distinct, metric_of, panels
from jobs.report.prose.wording import INCONCLUSIVE

SHARE_SPAN = 0.5
"""The difference of shares that has the full colour."""
SPANS = {"nll": 1.0, "bleu": 20.0, "chrf": 20.0}
"""The same by the beginning of other metrics' names. A metric that is not listed spans what it shows."""
TITLE_INCHES = 0.075
"""Width of a character of a title. Few languages would otherwise make a figure that cuts its titles off."""
PALE = 0.15
"""The strongest colour of a difference that is not significant, as a share of the full colour."""


def heat_map(
    table: pa.Table,
    *,
    rows: str,
    columns: str,
    low: float | None = None,
    high: float | None = None,
    middle: float | None = None,
    whole: bool = False,
) -> Figure:
    """Draw the columns `row`, `column` and `value` as a grid with the values written in; white cells have no value.

    The title names the `items` of the table, if it has this column.

    Args:
        table: The table.
        rows: Label of the vertical axis.
        columns: Label of the horizontal axis.
        low: Lower end of the colour scale; the smallest value by default.
        high: Upper end of the colour scale; the largest value by default.
        middle: If given, colours diverge: blue above, red below.
        whole: Whether values are integers, written without decimals.

    Returns:
        The figure.
    """
    cells = table.to_pylist()
    colours = mpl.colormaps["viridis" if middle is None else "RdBu"]
    with context():
        figure = Figure(figsize=_size(cells), layout="constrained")
        axes = figure.subplots()
        _grid(axes, cells, colours, limits=(low, high), digits=0 if whole else 2)
        if cells[0].get("items") is not None:
            axes.set_title(f"{cells[0]['items']} a cell", loc="left")
        axes.set_xlabel(columns)
        axes.set_ylabel(rows)
        return figure


def layer_map(table: pa.Table) -> Figure:
    """Draw the neurons of each language in each layer: numbers, or shares of the layer in percent if `is_share`."""
    is_share = bool(table["is_share"][0].as_py())
    return heat_map(
        table, rows="language", columns="layer (% of its neurons)" if is_share else "layer", whole=not is_share
    )


def difference_maps(table: pa.Table, *, rows: str, columns: str) -> Figure:
    """Draw a grid of `value` for each `panel`; a frame marks the cells of a language with itself.

    Colours diverge from zero: blue is a positive `improvement`, red a negative one. If neither direction of the metric
    is better, purple is an increase and orange a decrease. The colours of a metric span at least `SPANS`, and the
    minimum detectable effects. What is not significant is pale.

    Returns:
        The figure.
    """
    by_panel = panels(table)
    sizes = [_size(cells) for _, cells in by_panel]
    title = max(len(panel) for panel, _ in by_panel) * TITLE_INCHES
    size = max(0.8 + title, *(width for width, _ in sizes)), sum(height + 0.25 for _, height in sizes)
    with context():
        figure = Figure(figsize=size, layout="constrained")
        ratios = [height for _, height in sizes]
        grids = np.atleast_1d(figure.subplots(len(by_panel), gridspec_kw={"height_ratios": ratios}))
        for axes, (panel, cells) in zip(grids, by_panel, strict=True):
            largest = max((abs(cell["value"]) for cell in cells), default=0.0)
            digits = 2 if largest < 10 else 1 if largest < 100 else 0
            reach = _reach(cells)
            directed = all(cell["improvement"] is not None for cell in cells)
            colours = mpl.colormaps["RdBu" if directed else "PuOr"]
            shade = "improvement" if directed else "value"
            shaded = [{**cell, "shade": _shade(cell, shade, reach)} for cell in cells]
            _grid(axes, shaded, colours, limits=(-reach, reach), digits=digits, shade="shade")
            across, down = distinct(cells, "column"), distinct(cells, "row")
            for language in set(across) & set(down):
                corner = across.index(language) - 0.5, down.index(language) - 0.5
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.4, edgecolor="black"))
            axes.set_title(panel, loc="left")
            axes.set_xlabel(columns)
            axes.set_ylabel(rows)
        return figure


def _reach(cells: list[Row]) -> float:
    """Return the difference that has the full colour: a fixed one for the metric, unless there are larger ones."""
    fixed = span_of(metric_of(cells[0]["panel"]))
    seen = [abs(cell[name]) for cell in cells for name in ("value", "mde", "noise") if cell[name] is not None]
    return float(max(fixed, *seen, 1e-9))


def span_of(metric: str) -> float:
    """Return the difference of a metric that has the full colour if none is larger; 0 if no such value is known."""
    return SHARE_SPAN if is_share(metric) else next((SPANS[name] for name in SPANS if metric.startswith(name)), 0.0)


def _shade(cell: Row, column: str, reach: float) -> float | None:
    """Return the value that determines the colour of a cell: pale if it is not significant."""
    value = cell[column]
    if value is None or cell["conclusion"] not in INCONCLUSIVE:
        return None if value is None else float(value)
    return max(-PALE * reach, min(PALE * reach, float(value)))


def _size(cells: list[Row]) -> tuple[float, float]:
    return 1.6 + 0.46 * len(distinct(cells, "column")), 1.1 + 0.3 * len(distinct(cells, "row"))


def _grid(
    axes: Axes,
    cells: list[Row],
    colours: Colormap,
    *,
    limits: tuple[float | None, float | None],
    digits: int,
    shade: str = "value",
) -> None:
    """Draw the values of the cells as numbers; the column `shade` determines the background colour."""
    across, down = distinct(cells, "column"), distinct(cells, "row")
    values, shades = np.full((2, len(down), len(across)), np.nan)
    for cell in cells:
        if cell["value"] is not None:
            position = down.index(cell["row"]), across.index(cell["column"])
            values[position], shades[position] = cell["value"], cell[shade]
    image = axes.imshow(shades, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(across)), [str(name) for name in across])
    axes.set_yticks(range(len(down)), [str(name) for name in down])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            red, green, blue, _ = colours(image.norm(shades[y, x]))
            ink = "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color=ink)
