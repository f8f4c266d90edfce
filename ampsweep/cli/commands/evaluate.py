"""`ampsweep evaluate`: computes metrics over stored text, without the model that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.client import Server
from ampsweep.cli.options.evaluation import (
    RATINGS,
    MetricOptions,
    check_metrics,
    check_used,
    needed_columns,
    opened_metrics,
)
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.results import local_results
from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.files import parquet_output
from ampsweep.temporary import TemporaryFolder

if TYPE_CHECKING:
    from jobs.evaluation.evaluation import Evaluation
    from jobs.evaluation.texts import Columns, StoredText


@takes_engine_options
def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Parquet, JSON lines (also .gz), the folder that `run` wrote to, or the id of a server's sweep.",
        ),
    ],
    metric: Annotated[
        str,
        typer.Option(
            help="One or several, separated by commas: language_confusion (LPR, WPR, LCPR), lfs, script, relevance (by "
            "a judge model), answer_nll (likelihood under a model), comet, metricx, metricx_qe."
        ),
    ] = "language_confusion",
    out: Annotated[Path | None, typer.Option(help="A Parquet file to write: one row for each text and score.")] = None,
    text: Annotated[str | None, typer.Option(help="The column with the texts; default: completion.")] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="The column with the wanted language, or the code of one for all texts; default: language, and "
            "target_language in results of a sweep."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Columns to group by, separated by commas; default: the language, and in results of a sweep also "
            "the columns that distinguish its cells."
        ),
    ] = None,
    input_column: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="The column with the questions or sentences that the texts answer, continue or translate (relevance, "
            "answer_nll, comet, metricx); default: the first of input, question, prompt, source.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The column with reference translations (comet, metricx); default: gold or reference."),
    ] = None,
    identifier: Annotated[
        str,
        typer.Option(help="py3langid, lid.176.ftz, lingua, or the path of a fastText model (.ftz, .bin)."),
    ] = "py3langid",
    english_words: Annotated[
        Path | None, typer.Option(help="A file of English words, one per line; without it WPR is undefined.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge: a model of the server, or of --judge-url.")
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            help="An OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; its key is read from "
            "AMPSWEEP_JUDGE_API_KEY. Default: --server."
        ),
    ] = None,
    judge_concurrency: Annotated[
        int, typer.Option(min=1, max=1024, help="Maximum number of concurrent requests to the judge.")
    ] = 16,
    ratings: Annotated[
        Path | None,
        typer.Option(help=f"The file that stores the judge's ratings; default: {RATINGS} beside FILE."),
    ] = None,
    nll_model: Annotated[
        str | None,
        typer.Option(help="answer_nll: the folder of the unsteered model that scores the texts, or `atlas`."),
    ] = None,
    comet_model: Annotated[
        str | None,
        typer.Option(help="A COMET checkpoint, or a model in the local cache of the Hub (Unbabel/wmt22-comet-da)."),
    ] = None,
    metricx_model: Annotated[str | None, typer.Option(help="The folder of a MetricX-24 model.")] = None,
    metricx_tokenizer: Annotated[
        str | None, typer.Option(help="The folder of the model's mT5 tokenizer; default: that of the model.")
    ] = None,
    server: Server = DEFAULT_URL,
    *,
    engine_options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Compute metrics over stored text, by group: results of a sweep, or any file with a text and a language."""
    if nll_model is not None:
        quiet_libraries("evaluate", verbose=engine_options.verbose)
    names = comma_separated(metric)
    options = MetricOptions(
        identifier=identifier,
        english_words=english_words,
        server=server,
        judge_url=judge_url,
        judge_model=judge_model,
        judge_concurrency=judge_concurrency,
        ratings=ratings or _beside(files[0]),
        nll_model=nll_model,
        engine=engine_options,
        comet_model=comet_model,
        metricx_model=metricx_model,
        metricx_tokenizer=metricx_tokenizer,
    )
    check_metrics(names, options)
    given = {"english_words": english_words, "judge_model": judge_model, "judge_url": judge_url, "ratings": ratings}
    given |= {"nll_model": nll_model, "comet_model": comet_model, "metricx_model": metricx_model}
    check_used(names, {**given, "metricx_tokenizer": metricx_tokenizer, "input": input_column, "reference": reference})
    if out is not None:
        out = parquet_output(out, param="out", inputs=map(Path, files))
    wanted: dict[str, Any] = {
        "text": text,
        "language": language,
        "by": None if by is None else _names(by),
        "input_column": input_column,
        "reference": reference,
    }
    with _local_files(files, server) as paths:
        evaluation, columns = run_to_end(_evaluate(paths, names, options, wanted))
    _write_and_show(evaluation, columns.by, out, as_json=as_json)


def _write_and_show(evaluation: Evaluation, by: Sequence[str], out: Path | None, *, as_json: bool) -> None:
    """Write the score of each text if there is a file for it, and print the values of each group."""
    from jobs.evaluation.score_file import write_scores

    if out is not None:
        write_scores(evaluation, by, out)
    for group, values in evaluation.groups.items():
        named = dict(zip(by, group, strict=True))
        show({**named, **values}, _line(named, values), as_json=as_json)


async def _evaluate(
    paths: Sequence[Path], names: Sequence[str], options: MetricOptions, wanted: dict[str, Any]
) -> tuple[Evaluation, Columns]:
    from jobs.evaluation.evaluation import evaluate_texts

    needs = needed_columns(names)
    columns, texts = _texts(paths, needs, wanted)  # before a model is loaded
    async with opened_metrics(names, options) as metrics:
        if (all_needs := frozenset[str]().union(*(metric.needs for metric in metrics))) != needs:
            columns, texts = _texts(paths, all_needs, wanted)
        return await evaluate_texts(texts, metrics), columns


def _texts(
    paths: Sequence[Path], needs: frozenset[str], wanted: dict[str, Any]
) -> tuple[Columns, Sequence[StoredText]]:
    """Return the columns to read and the texts in them; print a warning about rows that lack something.

    Raises:
        InvalidRequest: A column is missing, or no row has everything.
    """
    from jobs.evaluation.text_files import column_names, read_stored_texts
    from jobs.evaluation.texts import columns_of

    columns = columns_of(paths, column_names(paths[0]), needs=needs, **wanted)
    stored = read_stored_texts(paths, columns)
    if stored.left_out:
        lacking = " or ".join(["no text", "no single wanted language", *(f"no {name}" for name in sorted(needs))])
        warn([f"{stored.left_out} rows have {lacking} and are left out"])
    if not stored.texts:
        raise InvalidRequest("there is no text to evaluate", param="files")
    return columns, stored.texts


@contextmanager
def _local_files(files: Sequence[str], server: str) -> Iterator[list[Path]]:
    """Yield the path of each file; download the results of a sweep that is given by its id."""
    with TemporaryFolder("evaluate") as folder:
        yield [local_results(file, server, folder) for file in files]


def _beside(file: str) -> Path:
    """Return the default file of ratings: in a folder of results, or beside a file; here, for a sweep of a server."""
    path = Path(file)
    return (path if path.is_dir() else path.parent) / RATINGS


def _names(by: str) -> tuple[str, ...]:
    names = tuple(comma_separated(by))
    if len(set(names)) < len(names):
        raise InvalidRequest(f"names a column twice: {by}", param="by")
    return names


def _line(group: dict[str, Any], values: dict[str, Any]) -> str:
    """Return a group as one line: its name, then each rate with its interval. Only the null of `method` is shown."""
    rates = [_rate(name, values[name], values[f"{name}_ci"]) for name in values if f"{name}_ci" in values]
    rates += [f"{name} {values[name]:.3f}" for name in ("lcpr", "steering_score") if values.get(name) is not None]
    rates += [f"{name} {values[name]}" for name in ("relevance_unparsed", "relevance_too_long") if values.get(name)]
    shown = {
        key: "none" if value is None else value for key, value in group.items() if value is not None or key == "method"
    }
    name = "  ".join(f"{key}={value}" for key, value in shown.items())
    note = f"  ({values['note']})" if values["note"] else ""
    return "  ".join([*([name] if name else []), f"n {values['n']}", *rates]) + note


def _rate(name: str, value: float | None, bounds: Sequence[float] | None) -> str:
    """Return a rate with its interval; texts that are alike have none."""
    interval = "" if bounds is None else f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"
    return f"{name} -" if value is None else f"{name} {value:.3f}{interval}"
