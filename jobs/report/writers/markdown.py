"""The report as Markdown (GitHub's dialect), with its figures as SVG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from jobs.report.answers import Answer
from jobs.report.document import Document, Notice
from jobs.report.grid import Grid

_SPECIAL = re.compile(r"[\\`*_\[\]<>|#~&$]")


def to_markdown(document: Document, *, figures: str) -> str:
    """Return the report as Markdown.

    Args:
        document: The report.
        figures: The folder of the figures, `KEY.svg`, relative to the file.
    """
    blocks = [
        f"# {escape_markdown(document.title)}",
        escape_markdown(document.subtitle),
        *_notices(document.missing),
        "## What was found",
        *(escape_markdown(sentence) for sentence in document.findings),
        *_notices(document.caveats),
        "## Contents",
        "\n".join(
            f"{number}. [{answer.question.title}](#{answer.question.key})" for number, answer in document.numbered
        ),
    ]
    for number, answer in document.numbered:
        blocks += _section(number, answer, figures)
    blocks += [
        "## Methods",
        escape_markdown(document.methods),
        *_folded("Sources", [markdown_table(document.sources)]),
        *_folded("Files", [markdown_table(document.files)]),
        *_folded("Views that the queries share", [_sql("\n\n".join(document.views))]),
    ]
    return "\n\n".join(blocks) + "\n"


def markdown_table(grid: Grid) -> str:
    """Return a table as Markdown; numbers are aligned right."""
    lines = [
        _line(escape_markdown(column.head) for column in grid.columns),
        _line("---:" if column.is_number else "---" for column in grid.columns),
        *(_line(escape_markdown(cell.text) for cell in row) for row in grid.rows),
    ]
    constants = escape_markdown("; ".join(f"{name}: {value}" for name, value in grid.constants))
    more = f"{grid.left_out} more rows in the files." if grid.left_out else ""
    return "\n\n".join(filter(None, [constants, "\n".join(lines), more]))


def escape_markdown(text: str) -> str:
    """Return text with all characters that Markdown or HTML would interpret escaped, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", text.replace("\n", " "))


def _section(number: int, answer: Answer, figures: str) -> Iterator[str]:
    question, observation = answer.question, escape_markdown(answer.observation)
    yield f'<a id="{question.key}"></a>'
    yield f"## {number}. {question.title}"
    yield escape_markdown(question.about)
    if answer.figure is None:
        yield f"**Table {number}.** {observation}"
        yield markdown_table(answer.grid)
    else:
        yield f"![{escape_markdown(question.title)}]({quote(figures)}/{question.key}.svg)"
        yield f"**Figure {number}.** {observation}"
        yield from _folded(f"Table {number}: the values of the figure", [markdown_table(answer.grid)])
    yield from _folded("Query", [_sql(question.sql.strip())])


def _notices(notices: Sequence[Notice]) -> Iterator[str]:
    for notice in notices:
        statement = f"**{escape_markdown(notice.statement)}**" if notice.statement else ""
        yield f"> {statement}{escape_markdown(notice.rest)}"


def _folded(title: str, blocks: Sequence[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", *blocks, "</details>"]


def _sql(query: str) -> str:
    return f"```sql\n{query}\n```"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
