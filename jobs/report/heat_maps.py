"""Grids of values: languages by languages, languages by layers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jobs.report.drawing import Row, context, distinct, panels, svg


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
    cells = found.to_pylist()
    colours = mpl.colormaps["viridis" if middle is None else "RdBu_r"]
    with context():
        figure = Figure(figsize=_size(cells), layout="constrained")
        axes = figure.subplots()
        _grid(axes, cells, colours, limits=(low, high), digits=0 if whole else 2)
        axes.set_xlabel(columns)
        axes.set_ylabel(rows)
        return svg(figure)


def difference_maps(found: pa.Table, *, rows: str, columns: str) -> str:
    """Draw a grid a `panel`, in colours that diverge from no difference; a frame marks a language with itself."""
    each = panels(found)
    sizes = [_size(cells) for _, cells in each]
    size = max(width for width, _ in sizes), sum(height + 0.25 for _, height in sizes)
    with context():
        figure = Figure(figsize=size, layout="constrained")
        ratios = [height for _, height in sizes]
        grids = np.atleast_1d(figure.subplots(len(each), gridspec_kw={"height_ratios": ratios}))
        for axes, (panel, cells) in zip(grids, each, strict=True):
            reach = max((abs(cell["value"]) for cell in cells), default=0.0) or 1.0
            digits = 2 if reach < 10 else 1 if reach < 100 else 0
            _grid(axes, cells, mpl.colormaps["RdBu_r"], limits=(-reach, reach), digits=digits)
            across, down = distinct(cells, "column"), distinct(cells, "row")
            for language in set(across) & set(down):
                corner = across.index(language) - 0.5, down.index(language) - 0.5
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.4, edgecolor="black"))
            axes.set_title(panel, loc="left")
            axes.set_xlabel(columns)
            axes.set_ylabel(rows)
        return svg(figure)


def _size(cells: list[Row]) -> tuple[float, float]:
    return 1.6 + 0.46 * len(distinct(cells, "column")), 1.1 + 0.3 * len(distinct(cells, "row"))


def _grid(
    axes: Axes, cells: list[Row], colours: Colormap, *, limits: tuple[float | None, float | None], digits: int
) -> None:
    across, down = distinct(cells, "column"), distinct(cells, "row")
    grid = np.full((len(down), len(across)), np.nan)
    for cell in cells:
        if cell["value"] is not None:
            grid[down.index(cell["row"]), across.index(cell["column"])] = cell["value"]
    image = axes.imshow(grid, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(across)), [str(name) for name in across])
    axes.set_yticks(range(len(down)), [str(name) for name in down])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (y, x), value in np.ndenumerate(grid):
        if not np.isnan(value):
            red, green, blue, _ = colours(image.norm(value))
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color=ink)
