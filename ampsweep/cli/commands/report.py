"""`ampsweep report`: writes the report of a sweep as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.clients import DEFAULT_URL
from ampsweep.errors import AmpsweepError, InvalidRequest, NoConnection, NotFound
from ampsweep.files import atomic_write, check_folder, output_file


def report(
    sweep: Annotated[
        str,
        typer.Argument(
            help="The folder that `ampsweep run` wrote to, or the id of a sweep on the server.", autocompletion=sweeps
        ),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    tables: Annotated[Path | None, typer.Option(help="Also write the tables as CSV and LaTeX to this folder.")] = None,
    low_resource: Annotated[
        str | None, typer.Option(help="Low-resource languages, separated by commas. [default: ht,qu,ta]")
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            help="Scores of the sweep's texts that `evaluate --out` wrote (relevance, answer_nll); may be repeated."
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Report on the cells completed so far, of a sweep that has not ended or was stopped."
        ),
    ] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Answer the questions of the paper from the Parquet files of a sweep, in one self-contained HTML file."""
    target = output_file(out, param="out", inputs=[*Path(sweep).glob("*.parquet"), *(scores or ())])
    if tables is not None:
        check_folder(tables, param="tables")
    for path in scores or ():
        if not path.is_file():
            raise InvalidRequest(
                f"there is no file {path}; write it with `ampsweep evaluate SWEEP --out`", param="scores"
            )
    if Path(sweep).is_dir():
        _write(Path(sweep), target, tables, low_resource, scores=scores or (), partial=partial)
    else:
        with TemporaryDirectory() as folder, client_of(server) as client:
            try:
                client.download(sweep, Path(folder) / "results.parquet", partial=partial)
            except (NoConnection, NotFound) as error:
                raise type(error)(_not_found(sweep, server, error)) from error
            client.download_summary(sweep, Path(folder) / "summary.parquet", partial=partial)
            _write(Path(folder), target, tables, low_resource, scores=scores or ())
    written = {"report": str(out), "tables": None if tables is None else str(tables)}
    show(written, "\n".join(f"{name}: {path}" for name, path in written.items() if path), as_json=as_json)


def _not_found(sweep: str, server: str, error: AmpsweepError) -> str:
    """Return the message for a `sweep` that is neither a folder nor the id of a sweep on the server."""
    folder = f"{sweep} is a file" if Path(sweep).is_file() else f"there is no folder {sweep}"
    other = f"no server at {server}" if isinstance(error, NoConnection) else error.message
    return f"{folder}, and {other}; name the folder that `ampsweep run --out` wrote to, or the id of a sweep"


def _write(
    folder: Path,
    out: Path,
    tables: Path | None,
    low_resource: str | None,
    *,
    scores: Sequence[Path],
    partial: bool = False,
) -> None:
    from jobs.report.data import ReportData
    from jobs.report.page import answer_questions, render

    codes = None if low_resource is None else {code.strip() for code in low_resource.split(",")}
    with closing(ReportData(folder, low_resource=codes, partial=partial, scores=scores)) as data:
        answers = list(answer_questions(data))
        page = render(data, answers)
    with atomic_write(out) as path:
        path.write_text(page, encoding="utf-8")
    if tables is not None:
        tables.mkdir(parents=True, exist_ok=True)
        for answer in answers:
            for suffix, text in ((".csv", answer.csv), (".tex", answer.latex)):
                with atomic_write(tables / f"{answer.question.key}{suffix}") as path:
                    path.write_text(text, encoding="utf-8")
