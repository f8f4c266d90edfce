"""Reads downloaded Parquet files as PyArrow, pandas or Polars tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"PAR1"
TableForm = Literal["arrow", "pandas", "polars"]


def read_table(path: Path, form: TableForm) -> Any:
    """Read a Parquet file as a PyArrow Table, or as a pandas or Polars DataFrame.

    Every column has the same type whether or not it has missing values. In pandas, integers are `Int64` or `Int32` and
    booleans `boolean`, because NumPy's types cannot represent missing values. Doubles are `float64` with NaN, text has
    pandas' string type, and lists are NumPy arrays. Polars uses the types of Arrow.

    Raises:
        InvalidRequest: The form is unknown, or its library is not installed.
    """
    import pyarrow.parquet as pq

    check_form(form)
    table = pq.read_table(path)
    return table if form == "arrow" else _FRAMES[form](table)


def is_parquet(path: Path) -> bool:
    """Return whether a file begins and ends as a Parquet file does."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        return start == file.read() == _MAGIC


def check_form(form: str) -> None:
    """Raise InvalidRequest unless `form` is a known table form."""
    if form != "arrow" and form not in _FRAMES:
        raise InvalidRequest(f"unknown table form {form!r}; known: arrow, {', '.join(_FRAMES)}", param="as_")


def _pandas(table: pa.Table) -> Any:
    import pyarrow as pa

    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("pandas") from error
    types: dict[pa.DataType, Any] = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    return table.to_pandas(types_mapper=types.get)


def _polars(table: pa.Table) -> Any:
    try:
        import polars
    except ImportError as error:
        raise _missing("polars") from error
    return polars.from_arrow(table)


def _missing(library: str) -> InvalidRequest:
    return InvalidRequest(f"{library} is not installed; run: pip install {library}", param="as_")


_FRAMES = {"pandas": _pandas, "polars": _polars}
