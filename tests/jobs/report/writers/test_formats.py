"""The formats of a report: how they are chosen, and the files that they write."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ampsweep.errors import InvalidRequest
from jobs.report.document import Document
from jobs.report.writers.formats import ReportFormat, figures_folder, format_of, write_report
from jobs.report.writers.notebook import Source


@pytest.mark.parametrize(
    ("name", "out", "expected"),
    [
        (None, None, "html"),
        (None, "a.ipynb", "ipynb"),
        (None, "a.MD", "md"),
        ("tex", None, "tex"),
        ("tex", "a.txt", "tex"),
    ],
)
def test_the_format_is_named_or_that_of_the_suffix(name: str | None, out: str | None, expected: str) -> None:
    assert format_of(name, None if out is None else Path(out)) == expected


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        ("pdf", None, "unknown format 'pdf'; known: html, md, tex, ipynb"),
        (None, "a.pdf", "the suffix of a.pdf is not that of a format (html, md, tex, ipynb); add --format"),
        (None, "a", "the suffix of a is not that of a format (html, md, tex, ipynb); add --format"),
    ],
)
def test_an_unknown_format_is_rejected_with_the_known_ones(name: str | None, out: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        format_of(name, None if out is None else Path(out))
    assert (caught.value.message, caught.value.param) == (message, "format")


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("html", {"my report.html"}),
        ("md", {"my report.md", "my report-figures/self_cross.svg"}),
        ("tex", {"my report.tex", "my report-figures/self_cross.pdf"}),
        ("ipynb", {"my report.ipynb"}),
    ],
)
def test_figures_are_in_the_report_or_beside_it(
    form: ReportFormat, files: set[str], document: Document, tmp_path: Path
) -> None:
    out = tmp_path / f"my report.{form}"
    write_report(document, out, form, Source(sweep="study"))
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == files
    for path in tmp_path.rglob("*.svg"):
        assert "#ffffff" in path.read_text(), "a file of its own is drawn on white"
        ElementTree.parse(path)  # our own
    for path in tmp_path.rglob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF-")


def test_latex_can_include_the_folder_of_the_figures_whatever_the_report_is_called() -> None:
    assert figures_folder(Path("out/50 % {a}é.tex")) == Path("out/50 - -a-é-figures")
