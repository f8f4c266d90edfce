"""`ampsweep samples`: prints what a model answered to a few items, unsteered and under each intervention."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from ampsweep.cli.options.client import Server
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.options.results import local_results
from ampsweep.cli.terminal.output import AsJson, echo, show
from ampsweep.cli.terminal.summary import SIGNS
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.temporary import TemporaryFolder

_NARROWEST = 40
"""Columns of a text at least, whatever the width of the terminal."""

_LINES = 12
"""Lines of a question with its options at most; examples of a prompt are before them."""


def samples(
    sweep: Annotated[
        str,
        typer.Argument(
            help="The folder that `ampsweep run` wrote to, its results.parquet, or the id of a sweep on the server.",
            autocompletion=sweeps,
        ),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only samples with this value, such as task=generation, target_language=fr or factor=2; `none` for "
            "null; may be repeated.",
        ),
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="Items of each task and language of its data.")] = 3,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print a few items of a sweep with what the model answered: unsteered, and under each intervention.

    A line is as wide as the terminal; with --json the texts are whole.
    """
    from jobs.results.samples.side_by_side import read_draws, read_items

    wanted = dict(_pair(text) for text in where or [])
    with TemporaryFolder("samples") as folder:
        path = local_results(sweep, server, folder)
        found = read_items(path, wanted, items=items)
        draws = read_draws(path)
    if as_json:
        for row in (row for rows in found for row in rows):
            show(row, "", as_json=True)
        return
    width = shutil.get_terminal_size((120, 24)).columns
    echo("\n\n".join("\n".join(_item(rows, draws, width)) for rows in found))


def _pair(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not (column and equals and value):
        raise InvalidRequest(f"must be COLUMN=VALUE, for example task=generation; got {text!r}", param="where")
    return column, value


def _item(rows: Sequence[Mapping[str, Any]], draws: Mapping[int, int], width: int) -> Iterator[str]:
    """Yield the lines of an item: its name and its text, and a line for each sample."""
    first = rows[0]
    options = f" ({first['task_options']})" if first["task_options"] else ""
    yield f"{first['task']}{options}, {first['data_language']}, item {first['doc_id']}"
    yield from (f"  {_short(line, width - 2)}" for line in _question(rows))
    labels = [_label(row, draws) for row in rows]
    longest = max(map(len, labels))
    for row, label in zip(rows, labels, strict=True):
        yield f"  {label:<{longest}}  {_short(_answer(row), max(width - longest - 4, _NARROWEST))}"


def _question(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the text of an item. Each option has a line; the options of LSS depend on the target language."""
    inputs = dict.fromkeys(row["input"] for row in rows if row["input"])
    if any(row["completion"] is not None for row in rows):
        return list(inputs)[:1]
    return list(dict.fromkeys(line for text in inputs for line in text.splitlines()))[-_LINES:]


def _label(row: Mapping[str, Any], draws: Mapping[int, int]) -> str:
    """Return what was done to the model, in a few words, with the number of one of several draws of random neurons."""
    target, method = row["target_language"], row["method"]
    words = [] if target is None else [target]
    if method is None:
        return " ".join(["unsteered", *(f"(to compare with {target})" for target in words)])
    words += [method] if row["op"] is None or method != "neurons" else []
    words += [str(row[name]) for name in ("op", "patch", "statistic") if row[name] is not None]
    words += [f"{SIGNS.get(row['op'], '')} {row['factor']:g}"] if row["factor"] is not None else []
    words += [f"weights {row['weights']}"] if row["weights"] else []
    if row["neuron_layer"] is not None:
        words.append(f"neuron {row['neuron_layer']}:{row['neuron_index']}")
    elif row["layers"] not in (None, "all"):
        words.append(f"layers {row['layers']}")
    words += [f"{name} {row[name]}" for name in ("tokens", "when", "part") if row[name]]
    selection = f", {row['selection']}" if row["selection"] else ""
    return " ".join(words) + selection + (f" draw {draws[row['random_seed']]}" if row["random_seed"] in draws else "")


def _answer(row: Mapping[str, Any]) -> str:
    """Return the answer of a sample: its text, or its prediction and its score."""
    if row["error"]:
        return f"failed: {row['error']}"
    if row["completion"] is not None:
        return json.dumps(row["completion"], ensure_ascii=False)
    correct = {True: " (correct)", False: " (wrong)", None: ""}[row["correct"]]
    parts = [] if row["prediction"] is None else [f"{row['prediction']}{correct}"]
    name = "nll" if row["task"] == "perplexity" else "score"  # of other tasks a larger score is better
    parts += [] if row["score"] is None else [f"{name} {row['score']:.2f}"]
    return ", ".join(parts)


def _short(text: str, width: int) -> str:
    """Return a text on one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
