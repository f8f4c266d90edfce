"""What a command prints: text for people or, with `--json`, objects for scripts, one a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line; an error is one too.")]


def show(content: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print one thing, as an object or as its text."""
    typer.echo(json.dumps(content, ensure_ascii=False) if as_json else text)
