"""Tables for readers: a value and its interval share a column, constant columns become a note, numbers are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_LOW, _HIGH = "_low", "_high"
_BOUNDS = {"delta_ci_low": "delta_ci_high"}
"""Pairs of columns that are shown as one: the bounds of an interval."""
_EXACT = ("factor", "x")
"""Columns of numbers that a spec names: they are not rounded."""
_INTERVAL = "interval of delta"


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and the number that it is sorted by, None for text and missing values."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, and whether it holds numbers."""

    head: str
    is_number: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table to show.

    Attributes:
        columns: The columns.
        rows: The rows, one cell for each column.
        constants: Name and value of each column of text that is the same in all rows; they are shown once.
        left_out: Rows that are not shown.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    constants: tuple[tuple[str, str], ...] = ()
    left_out: int = 0


def grid_of(table: pa.Table, *, max_rows: int | None = None) -> Grid:
    """Return a table of query results for readers.

    A column `x` and its `x_low` and `x_high` become one, `0.940 (0.890 to 0.990)`, and so do the bounds of an interval.
    Columns without any value are left out. Numbers have three decimals.

    Args:
        table: The table.
        max_rows: Rows to show; by default all.
    """
    rows = table.to_pylist()
    names = [name for name in table.column_names if any(row[name] is not None for row in rows)]
    constants = [name for name in names if _is_constant(table, name)]
    shown = [name for name in names if name not in constants and not _is_part(name, names)]
    return Grid(
        columns=tuple(_column(table, name) for name in shown),
        rows=tuple(tuple(_cell(row, name) for name in shown) for row in rows[:max_rows]),
        constants=tuple((readable(name), rows[0][name]) for name in constants),
        left_out=0 if max_rows is None else max(0, len(rows) - max_rows),
    )


def plain_grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """Return a table of texts as it is."""
    return Grid(
        columns=tuple(Column(head) for head in heads), rows=tuple(tuple(Cell(text) for text in row) for row in rows)
    )


def readable(name: str) -> str:
    """Return the name of a column as a head."""
    return name.replace("_", " ")


def format_value(value: Any) -> str:
    """Return a value for readers: numbers with three decimals, empty for null."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"  # no sign of zero
    return str(value)


def _is_constant(table: pa.Table, name: str) -> bool:
    column = table[name]
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return bool(is_text and table.num_rows > 1 and column.null_count == 0 and len(column.unique()) == 1)


def _is_part(name: str, names: Sequence[str]) -> bool:
    """Return whether a column is shown in another one."""
    stem = name.removesuffix(_LOW).removesuffix(_HIGH)
    return (stem != name and stem in names) or name in _BOUNDS.values()


def _column(table: pa.Table, name: str) -> Column:
    kind = table.schema.field(name).type
    head = _INTERVAL if name in _BOUNDS else readable(name)
    return Column(head, is_number=bool(pa.types.is_floating(kind) or pa.types.is_integer(kind)))


def _cell(row: dict[str, Any], name: str) -> Cell:
    value, low, high = row[name], row.get(name + _LOW), row.get(name + _HIGH)
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    text = f"{value:g}" if number is not None and name in _EXACT else format_value(value)
    if value is not None and name in _BOUNDS:
        text += f" to {format_value(row[_BOUNDS[name]])}"
    elif value is not None and low is not None and high is not None:
        text += f" ({format_value(low)} to {format_value(high)})"
    return Cell(text, number)
