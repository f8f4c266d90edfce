"""The report as LaTeX: its preamble, its environments, and that nothing in it is left to be interpreted."""

from __future__ import annotations

import re

from jobs.report.document import Document
from jobs.report.tables import LATEX_PACKAGES
from jobs.report.writers.latex import to_latex_fragment

OWN_COMMANDS = re.compile(r"\\(?:begin|end|label|includegraphics|detokenize)(?:\[[^]]*\])?\{[^{}]*\}(?:\{[^{}]*\})?")


def test_every_environment_ends_and_every_group_is_closed(document: Document) -> None:
    text = to_latex_fragment(document, figures="figures")
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    braces = re.sub(r"\\[{}]", "", text)
    assert braces.count("{") == braces.count("}")


def test_rows_have_as_many_cells_as_their_table_has_columns(document: Document) -> None:
    text = to_latex_fragment(document, figures="figures")
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 3, "of two sections and the files; this sweep names no sources"
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}


def test_texts_are_escaped_and_packages_named(document: Document) -> None:
    text = to_latex_fragment(document, figures="figures")
    assert r"\section*{\textless{}b\textgreater{}50 \% \& \$x\_1\$ \textbar{} {*}a{*} \textbackslash{}b" in text
    assert r"\textbf{1 cells failed} \& {[}so\_on{]}" in text
    head, _, body = text.partition("\n\n")
    assert all(line.startswith("%") for line in head.splitlines())
    for package in LATEX_PACKAGES:
        assert rf"\usepackage{{{package}}}" in head
    assert not re.search(r"(?<!\\)[#$]", body), "no parameter or formula"
    assert set(re.findall(r"(?<!\\)%.*", body)) == {"%"}, "no comment"
    assert not re.search(r"(?<!\\)_", OWN_COMMANDS.sub("", body)), "no index"
    assert r"\includegraphics[width=0.79\textwidth,height=" in body, "a figure of 7.6 of 9.6 inches"
    assert r"\detokenize{figures/self_cross.pdf}" in body
