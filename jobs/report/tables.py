"""Tables as files: CSV with all columns, and LaTeX."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pa_csv

from jobs.report.grid import Grid

LATEX_PACKAGES = ("booktabs", "float", "graphicx")
"""The LaTeX packages that a table needs."""
LATEX_ROWS = 42
"""Rows of a table that fit on a page; a longer one is divided."""
_LATEX = {character: rf"\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line break it would begin an optional argument
    "]": "{]}",
    "*": "{*}",
    "\n": " ",
    "±": r"\(\pm\)",
    "·": r"\(\cdot\)",
    "−": r"\(-\)",
    "×": r"\(\times\)",
    "→": r"\(\rightarrow\)",
    "≤": r"\(\leq\)",
    "≥": r"\(\geq\)",
}


def to_csv(table: pa.Table) -> str:
    """Return a table as CSV with a header."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    return str(sink.getvalue().to_pybytes(), "utf-8")


def to_latex(grid: Grid, *, caption: str, label: str) -> str:
    """Return a table as LaTeX with booktabs rules, no wider than the page; numbers are aligned right.

    A table of more than `LATEX_ROWS` rows becomes several. The document needs the packages `LATEX_PACKAGES`.
    """
    parts = [grid.rows[start : start + LATEX_ROWS] for start in range(0, len(grid.rows), LATEX_ROWS)]
    lines: list[str] = []
    for index, rows in enumerate(parts):
        lines += [r"\begin{table}[H]", r"\centering", r"\small"]
        if index == 0:
            lines += [rf"\caption{{{escape_latex(_caption(grid, caption))}}}", rf"\label{{tab:{label}}}"]
        lines += [
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join('r' if column.is_number else 'l' for column in grid.columns)}}}",
            r"\toprule",
            " & ".join(escape_latex(column.head) for column in grid.columns) + r" \\",
            r"\midrule",
            *(" & ".join(escape_latex(cell.text) for cell in row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Return text with all characters that LaTeX would interpret escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _caption(grid: Grid, caption: str) -> str:
    constants = "; ".join(f"{name}: {value}" for name, value in grid.constants)
    return f"{caption} ({constants})" if constants else caption
