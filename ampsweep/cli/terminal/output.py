"""What a command prints: text for people or, with `--json`, objects for scripts, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line; an error is one too.")]


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to the standard error, a line each; the standard output stays the command's own."""
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)


def show(content: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print one thing, as an object or as its text."""
    typer.echo(json.dumps(content, ensure_ascii=False) if as_json else text)
