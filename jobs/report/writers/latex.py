"""The report as LaTeX to include in a document, with its figures as PDF files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from jobs.report.answers import Answer
from jobs.report.document import Document, Notice
from jobs.report.grid import grid_of
from jobs.report.tables import LATEX_PACKAGES, escape_latex, to_latex

_FULL_INCHES = 9.6
"""Width of the figures that fill the width of a page; narrower ones are reduced by the same factor."""


def to_latex_fragment(document: Document, *, figures: str) -> str:
    r"""Return the report as LaTeX without a preamble, for `\input`; its first lines name the packages that it needs.

    Args:
        document: The report.
        figures: The folder of the figures, `KEY.pdf`, relative to the document.
    """
    blocks = [
        _head(),
        rf"\section*{{{escape_latex(document.title)}}}",
        escape_latex(document.subtitle),
        *_notices(document.missing),
        r"\subsection*{What was found}",
        *(escape_latex(sentence) for sentence in document.findings),
        *_notices(document.caveats),
    ]
    for answer in document.answers:
        blocks += _section(answer, figures)
    sources = to_latex(document.sources, caption="Models and data, with their hashes.", label="sources")
    files = to_latex(document.files, caption="The files that the report was made from.", label="files")
    return "\n\n".join([*blocks, r"\subsection*{Methods}", escape_latex(document.methods), sources, files])


def _head() -> str:
    packages = "\n".join(rf"%   \usepackage{{{package}}}" for package in LATEX_PACKAGES)
    return (
        "% Written by `ampsweep report`. The preamble of the document needs:\n"
        f"{packages}\n"
        "% With pdfLaTeX also \\usepackage[T1]{fontenc}. Names in other scripts than Latin need XeLaTeX or LuaLaTeX."
    )


def _section(answer: Answer, figures: str) -> Iterator[str]:
    question, observation = answer.question, escape_latex(answer.observation)
    yield rf"\subsection*{{{escape_latex(question.title)}}}"
    yield escape_latex(question.about)
    grid = grid_of(answer.table, max_rows=question.max_rows)
    table = to_latex(grid, caption=question.title, label=question.key)
    if answer.figure is None:
        yield observation
    else:
        yield "\n".join(
            [
                r"\begin{figure}[H]",
                r"\centering",
                rf"\includegraphics[{_size(answer.figure)}]{{\detokenize{{{figures}/{question.key}.pdf}}}}",
                rf"\caption{{{observation}}}",
                rf"\label{{fig:{question.key}}}",
                r"\end{figure}",
            ]
        )
    yield table.rstrip("\n")
    if grid.left_out:
        yield f"{grid.left_out} more rows in the CSV file."


def _size(figure: Figure) -> str:
    share = min(1.0, figure.get_size_inches()[0] / _FULL_INCHES)
    return rf"width={share:.2f}\textwidth,height=0.85\textheight,keepaspectratio"


def _notices(notices: Sequence[Notice]) -> Iterator[str]:
    for notice in notices:
        statement = rf"\textbf{{{escape_latex(notice.statement)}}}" if notice.statement else ""
        yield statement + escape_latex(notice.rest)
