"""The formats of the report: chooses the format and its writer, and writes the file and its figures.

The writers, which import Matplotlib and SciPy, are imported when a report is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write

if TYPE_CHECKING:
    from jobs.report.document import Document
    from jobs.report.writers.notebook import Source

ReportFormat = Literal["html", "md", "tex", "ipynb"]
"""The formats, by the suffix of their files."""
FIGURE_FILES = {"md": "svg", "tex": "pdf"}
"""The formats whose figures are files beside the report, in the folder `figures_folder`, and the suffix of these."""


def figures_folder(out: Path) -> Path:
    """Return the folder of the figures of a report, without the characters that LaTeX allows in no name of a file."""
    return out.with_name(re.sub(r"[%#{}\\]", "-", out.stem) + "-figures")


def write_report(document: Document, out: Path, form: ReportFormat, source: Source) -> None:
    """Write a report, and its figures if the format has them as files.

    Args:
        document: The report.
        out: The file to write.
        form: The format.
        source: Where a notebook reads the files of the sweep from.
    """
    from jobs.report.figures.drawing import pdf_file, svg_file

    folder = figures_folder(out)
    if form in FIGURE_FILES:
        suffix = FIGURE_FILES[form]
        figure_file = {"svg": svg_file, "pdf": pdf_file}[suffix]
        folder.mkdir(exist_ok=True)
        for answer in document.answers:
            if answer.figure is not None:
                with atomic_write(folder / f"{answer.question.key}.{suffix}") as path:
                    path.write_bytes(figure_file(answer.figure))
    with atomic_write(out) as path:
        path.write_text(_text(document, form, folder.name, source), encoding="utf-8")


def format_of(name: str | None, out: Path | None) -> ReportFormat:
    """Return the format that an option names, or else that of the suffix of the file to write; HTML without either.

    Raises:
        InvalidRequest: There is no such format, or the suffix says nothing (param "format").
    """
    known: tuple[ReportFormat, ...] = get_args(ReportFormat)
    text = name if name is not None else out.suffix.removeprefix(".").lower() if out is not None else "html"
    for form in known:
        if text == form:
            return form
    formats = ", ".join(known)
    if name is None:
        raise InvalidRequest(f"the suffix of {out} is not that of a format ({formats}); add --format", param="format")
    raise InvalidRequest(f"unknown format {name!r}; known: {formats}", param="format")


def _text(document: Document, form: ReportFormat, figures: str, source: Source) -> str:
    match form:
        case "html":
            from jobs.report.writers.html import to_html

            return to_html(document)
        case "md":
            from jobs.report.writers.markdown import to_markdown

            return to_markdown(document, figures=figures)
        case "tex":
            from jobs.report.writers.latex import to_latex_fragment

            return to_latex_fragment(document, figures=figures)
        case "ipynb":
            from jobs.report.writers.notebook import to_notebook

            return to_notebook(document, source)
