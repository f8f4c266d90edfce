"""`ampsweep report`: writes the report of a sweep as HTML, Markdown, LaTeX or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.options.results import results_folder
from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.cli.terminal.progress import ProgressDisplay
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.files import atomic_write, check_folder, output_file
from ampsweep.temporary import TemporaryFolder

if TYPE_CHECKING:
    from jobs.report.document import Document


def report(
    sweep: Annotated[
        str,
        typer.Argument(
            help="The folder that `ampsweep run` wrote to, or the id of a sweep on the server.", autocompletion=sweeps
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The file to write. [default: report.FORMAT]")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="html, md, tex or ipynb (a notebook). [default: by the suffix of --out, else html]"
        ),
    ] = None,
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
    """Answer the questions of the paper from the Parquet files of a sweep, in one self-contained HTML file.

    With `--format` (or the suffix of `--out`) also as Markdown, as LaTeX to include, or as a Jupyter notebook.
    """
    from jobs.report.writers.formats import FIGURE_FILES, figures_folder, format_of, write_report

    inputs = [*Path(sweep).glob("*.parquet"), *(scores or ())]
    if out is not None:
        output_file(out, param="out", inputs=inputs)  # a folder is a worse mistake than an unknown suffix
    chosen = format_of(form, out)
    out = out or Path(f"report.{chosen}")
    target = output_file(out, param="out", inputs=inputs)
    if tables is not None:
        check_folder(tables, param="tables")
    _check_scores(scores or ())
    codes = None if low_resource is None else sorted(set(comma_separated(low_resource)))

    def write(document: Document) -> None:
        from jobs.report.writers.notebook import Source

        source = Source(
            sweep=sweep,
            server=None if Path(sweep).is_dir() else server,
            partial=partial,
            low_resource=codes,
            scores=[str(path) for path in scores or ()],
        )
        write_report(document, target, chosen, source)

    with _files_of(sweep, server, partial=partial) as folder:
        _report(folder, write, tables, codes, scores=scores or (), partial=partial)
    written = {
        "report": str(out),
        "figures": str(figures_folder(out)) if chosen in FIGURE_FILES else None,
        "tables": None if tables is None else str(tables),
    }
    show(written, "\n".join(f"{name}: {path}" for name, path in written.items() if path), as_json=as_json)


def _check_scores(scores: Sequence[Path]) -> None:
    """Raise InvalidRequest if a file of scores does not exist."""
    for path in scores:
        if not path.is_file():
            message = f"there is no file {path}; write it with `ampsweep evaluate SWEEP --out`"
            raise InvalidRequest(message, param="scores")


@contextmanager
def _files_of(sweep: str, server: str, *, partial: bool) -> Iterator[Path]:
    """Yield the folder with a sweep's results, summary and neurons, downloaded if `sweep` is the id of a sweep."""
    if (results := results_folder(sweep)) is not None:
        yield results
        return
    from jobs.report.sources.neurons_file import write_neurons_of

    with TemporaryFolder("report") as folder, client_of(server) as client:
        try:
            client.download(sweep, folder / "results.parquet", partial=partial)
        except NotFound as error:
            remedy = f"; `ampsweep status` lists the sweeps at {server}" if error.message == f"no sweep {sweep}" else ""
            raise NotFound(f"{error.message}{remedy}") from error
        client.download_summary(sweep, folder / "summary.parquet", partial=partial)
        write_neurons_of(folder, lambda neuron_set: client.neuron_set(neuron_set, neurons=True)["neurons"])
        yield folder


def _report(
    folder: Path,
    write: Callable[[Document], None],
    tables: Path | None,
    low_resource: Sequence[str] | None,
    *,
    scores: Sequence[Path],
    partial: bool,
) -> None:
    """Answer the questions from the files in a folder, and write the report and the tables."""
    with ProgressDisplay("report") as display:
        display.stage("reading the files")
        from jobs.report.data import ReportData

        with closing(ReportData(folder, low_resource=low_resource, partial=partial, scores=scores)) as data:
            display.stage("answering questions", "questions")
            # They import Matplotlib, for which missing files need not wait.
            from jobs.report.answers import answer_questions
            from jobs.report.document import document_of

            answers = [answer.drawn() for answer in answer_questions(data, on_question=display.show)]
            document = document_of(data, answers)
        display.stage("writing")
        write(document)
    if tables is not None:
        tables.mkdir(parents=True, exist_ok=True)
        for answer in answers:
            for suffix, text in ((".csv", answer.csv), (".tex", answer.latex)):
                with atomic_write(tables / f"{answer.question.key}{suffix}") as path:
                    path.write_text(text, encoding="utf-8")
