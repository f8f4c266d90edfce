"""Heat maps: languages by languages, and languages by layers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jobs.report.figures.drawing import Row, context, distinct, panels


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
    is better, purple is an increase and orange a decrease.

    Returns:
        The figure.
    """
    by_panel = panels(table)
    sizes = [_size(cells) for _, cells in by_panel]
    size = max(width for width, _ in sizes), sum(height + 0.25 for _, height in sizes)
    with context():
        figure = Figure(figsize=size, layout="constrained")
        ratios = [height for _, height in sizes]
        grids = np.atleast_1d(figure.subplots(len(by_panel), gridspec_kw={"height_ratios": ratios}))
        for axes, (panel, cells) in zip(grids, by_panel, strict=True):
            reach = max((abs(cell["value"]) for cell in cells), default=0.0) or 1.0
            digits = 2 if reach < 10 else 1 if reach < 100 else 0
            directed = any(cell["improvement"] is not None for cell in cells)
            colours = mpl.colormaps["RdBu" if directed else "PuOr"]
            shade = "improvement" if directed else "value"
            _grid(axes, cells, colours, limits=(-reach, reach), digits=digits, shade=shade)
            across, down = distinct(cells, "column"), distinct(cells, "row")
            for language in set(across) & set(down):
                corner = across.index(language) - 0.5, down.index(language) - 0.5
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.4, edgecolor="black"))
            axes.set_title(panel, loc="left")
            axes.set_xlabel(columns)
            axes.set_ylabel(rows)
        return figure


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
