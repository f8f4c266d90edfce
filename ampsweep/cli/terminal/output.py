"""Output of commands: text or, with `--json`, one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line; errors too.")]


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, one per line, so that standard output holds results only."""
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)


def show(content: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result as JSON or as text."""
    typer.echo(json.dumps(content, ensure_ascii=False) if as_json else text)
