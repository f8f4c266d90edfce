"""Tables as text: CSV, LaTeX, and cells for the page."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

_LATEX = {character: rf"\{character}" for character in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}"}


def to_csv(table: pa.Table) -> str:
    """Return a table as CSV with a header."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")


def to_latex(table: pa.Table, *, caption: str, label: str) -> str:
    """Return a table as a LaTeX `table` with booktabs rules; numbers are aligned right."""
    align = "".join("r" if _is_number(field.type) else "l" for field in table.schema)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(_escaped(name.replace("_", " ")) for name in table.column_names) + r" \\",
        r"\midrule",
        *(" & ".join(_escaped(text) for text in row) + r" \\" for row in formatted(table)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def formatted(table: pa.Table) -> list[list[str]]:
    """Return the rows formatted for readers: three decimals, empty for null."""
    return [[_format(value) for value in row.values()] for row in table.to_pylist()]


def _format(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return str(value)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, r"\textbackslash{}" if character == "\\" else character) for character in text)
