"""Output of commands: text or, with `--json`, one JSON object per line."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TextIO

import typer

from ampsweep.json_text import json_text
from ampsweep.telemetry.library_output import own_stream

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line; errors too.")]


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a command's own text to standard output or, with `err`, to standard error.

    Commands print by this function only: what libraries print goes elsewhere (`ampsweep.telemetry.library_output`).
    """
    typer.echo(text, file=own_stream(err=err), nl=nl)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, one per line, so that standard output holds results only."""
    for text in warnings:
        echo(f"warning: {text}", err=True)


def show(content: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result as JSON or as text."""
    echo(json_text(content, only_ascii=not _takes_unicode(own_stream())) if as_json else text)


def _takes_unicode(stream: TextIO) -> bool:
    """Return whether a stream can encode every character."""
    return codecs.lookup(stream.encoding or "utf-8").name.startswith("utf-")
