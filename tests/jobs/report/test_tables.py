"""Tables as LaTeX: what is escaped, and how long tables are divided."""

from __future__ import annotations

import pytest

from jobs.report.grid import plain_grid
from jobs.report.tables import LATEX_ROWS, escape_latex, to_latex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"50 % & $x_1^2$ #{a}~\n", r"50 \% \& \$x\_1\textasciicircum{}2\$ \#\{a\}\textasciitilde{}\textbackslash{}n"),
        ("[1] *a* <b> | c", "{[}1{]} {*}a{*} \\textless{}b\\textgreater{} \\textbar{} c"),
        ("0.9 ± 0.1 × 2 →\nfr", r"0.9 \(\pm\) 0.1 \(\times\) 2 \(\rightarrow\) fr"),
        ("日本語", "日本語"),
    ],
)
def test_every_character_that_latex_would_interpret_is_escaped(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


def test_a_long_table_is_divided_and_captioned_once() -> None:
    grid = plain_grid(("a_b",), [(f"r{index}",) for index in range(2 * LATEX_ROWS + 1)])
    text = to_latex(grid, caption="50 % of all", label="all")
    assert text.count(r"\begin{table}[H]") == text.count(r"\end{table}") == 3
    assert text.count(r"a\_b \\") == 3, "each part has its heads"
    assert text.count(r"\caption{50 \% of all}") == text.count(r"\label{tab:all}") == 1
    assert all(text.count(f"r{index} ") == 1 for index in range(2 * LATEX_ROWS + 1))
