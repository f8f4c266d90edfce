"""The report as a Jupyter notebook (nbformat 4.5) that computes it from the Parquet files, with its outputs."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.report.answers import Answer
from jobs.report.document import Document
from jobs.report.figures.drawing import svg
from jobs.report.grid import Grid
from jobs.report.writers.markdown import escape_markdown, markdown_table

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the notebook reads the files from, and how: the arguments of `ampsweep report`.

    Attributes:
        sweep: A folder, or the id of a sweep on a server.
        server: URL of the server; None for a folder.
        partial: Whether to read partial results.
        low_resource: Codes of the low-resource languages; None for the default.
        scores: Files of scores of the sweep's texts.
    """

    sweep: str
    server: str | None = None
    partial: bool = False
    low_resource: Sequence[str] | None = None
    scores: Sequence[str] = ()


def to_notebook(document: Document, source: Source) -> str:
    """Return the report as a notebook."""
    cells = [
        _text("title", _introduction(document)),
        _code("open", _opening(source)),
        _code("summary", "summary = data.query('SELECT * FROM summary').to_pandas()\nsummary.head()"),
    ]
    for number, answer in document.numbered:
        cells += _section(number, answer)
    sources = f"## Methods\n\n{escape_markdown(document.methods)}\n\n{markdown_table(document.sources)}"
    cells.append(_text("methods", f"{sources}\n\n{markdown_table(document.files)}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _introduction(document: Document) -> str:
    notices = [f"**{notice.statement}**{notice.rest}" for notice in document.missing]
    caveats = [notice.statement + notice.rest for notice in document.caveats]
    lines = [*notices, "## What was found", *document.findings, *caveats]
    texts = [line if line.startswith("## ") else escape_markdown(line) for line in lines]
    return "\n\n".join([f"# {escape_markdown(document.title)}", escape_markdown(document.subtitle), *texts])


def _opening(source: Source) -> str:
    options = {
        "partial": source.partial or None,
        "low_resource": None if source.low_resource is None else list(source.low_resource),
        "scores": [Path(path) for path in source.scores] or None,
    }
    arguments = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    lines = ["from pathlib import Path", ""]
    lines += ["from jobs.report.answers import answer", "from jobs.report.data import ReportData", ""]
    if source.server is None:
        lines.append(f"folder = Path({source.sweep!r})")
    else:
        partial = ", partial=True" if source.partial else ""
        lines[0:1] = ["from pathlib import Path", "from tempfile import mkdtemp"]
        lines.insert(3, "from ampsweep import Client")
        lines += [
            f"client, folder = Client({source.server!r}), Path(mkdtemp())",
            f"client.download({source.sweep!r}, folder / 'results.parquet'{partial})",
            f"client.download_summary({source.sweep!r}, folder / 'summary.parquet'{partial})",
        ]
    lines.append(f"data = ReportData(folder{arguments})")
    return "\n".join(lines)


def _section(number: int, answer: Answer) -> Iterator[Json]:
    question = answer.question
    yield _text(
        f"{question.key}-text",
        f"## {number}. {question.title}\n\n{escape_markdown(question.about)}\n\n{escape_markdown(answer.observation)}",
    )
    query = question.sql.strip().replace('"""', r"\"\"\"")
    source = f'{question.key} = answer(data, {question.key!r}, """\n{query}\n""")\n{question.key}.table.to_pandas()'
    yield _code(f"{question.key}-table", source, {"text/html": _html_table(answer.grid)})
    if answer.figure is not None:
        yield _code(f"{question.key}-figure", question.key, {"image/svg+xml": svg(answer.figure)})


def _html_table(grid: Grid) -> str:
    heads = "".join(f"<th>{html.escape(column.head)}</th>" for column in grid.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell.text)}</td>' for cell in row)}</tr>" for row in grid.rows)
    constants = "; ".join(f"{html.escape(name)}: {html.escape(value)}" for name, value in grid.constants)
    return f"<p>{constants}</p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _text(name: str, text: str) -> Json:
    return {"cell_type": "markdown", "id": _id(name), "metadata": {}, "source": _lines(text)}


def _code(name: str, source: str, output: dict[str, str] | None = None) -> Json:
    outputs = []
    if output is not None:
        data = {kind: _lines(text) for kind, text in output.items()}
        outputs.append({"output_type": "execute_result", "execution_count": None, "data": data, "metadata": {}})
    cell: Json = {"cell_type": "code", "id": _id(name), "metadata": {}, "execution_count": None}
    return {**cell, "outputs": outputs, "source": _lines(source)}


def _id(name: str) -> str:
    return name.replace("_", "-")


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
