"""`ampsweep evaluate`: computes a metric over stored text, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ampsweep.cli.options.engine import comma_separated
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.errors import InvalidRequest


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Parquet, JSON lines (also .gz), or the folder that `run` wrote to.",
        ),
    ],
    metric: Annotated[
        str, typer.Option(help="language_confusion (LPR, WPR, LCPR) or language_forcing (LFS, script).")
    ] = "language_confusion",
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
            help="Columns whose values make a group, by comma; default: the language, and in results of a "
            "sweep task, method, selection, op and factor, too."
        ),
    ] = None,
    identifier: Annotated[
        str,
        typer.Option(help="py3langid, lid.176.ftz, lingua, or the path of a fastText model (.ftz, .bin)."),
    ] = "py3langid",
    english_words: Annotated[
        Path | None, typer.Option(help="A list of English words, one a line; without it WPR is not defined.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute a metric over stored text, by group: results of a sweep, or any file with a text and a language."""
    from jobs.evaluation.rates import evaluate_texts
    from jobs.evaluation.texts import columns_of, read_stored_texts
    from jobs.language_control.identifiers import open_identifier
    from jobs.language_control.language_confusion import english_word_list

    if english_words is not None and not english_words.is_file():
        raise InvalidRequest(f"there is no file {english_words}", param="english-words")
    columns = columns_of(files, text=text, language=language, by=None if by is None else _names(by))
    chosen = open_identifier(identifier)
    words = None if english_words is None else english_word_list(english_words.read_text(encoding="utf-8-sig"))
    stored = read_stored_texts(files, columns)
    if stored.left_out:
        warn([f"{stored.left_out} rows have no text or no single wanted language and are left out"])
    groups = evaluate_texts(stored.texts, metric, identifier=chosen, english_words=words)
    if not groups:
        raise InvalidRequest("there is no text to evaluate", param="files")
    for group, values in groups.items():
        named = dict(zip(columns.by, group, strict=True))
        show({**named, **values}, _line(named, values), as_json=as_json)


def _names(by: str) -> tuple[str, ...]:
    names = tuple(comma_separated(by))
    if len(set(names)) < len(names):
        raise InvalidRequest(f"names a column twice: {by}", param="by")
    return names


def _line(group: dict[str, Any], values: dict[str, Any]) -> str:
    """Return a group as one line: its name, then each rate with its interval."""
    rates = [
        f"{name} {values[name]:.3f} [{low:.3f}, {high:.3f}]" if values[name] is not None else f"{name} -"
        for name in values
        if f"{name}_ci" in values
        for low, high in [values[f"{name}_ci"] or (0.0, 0.0)]
    ]
    if values.get("lcpr") is not None:
        rates.append(f"lcpr {values['lcpr']:.3f}")
    name = "  ".join(f"{key}={value}" for key, value in group.items())
    note = f"  ({values['note']})" if values["note"] else ""
    return "  ".join([*([name] if name else []), f"n {values['n']}", *rates]) + note
