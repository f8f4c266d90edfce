"""`ampsweep results`: bring home what a sweep has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.server import Server
from ampsweep.client import DEFAULT_URL, Client
from ampsweep.errors import InvalidRequest


def results(
    sweep: Annotated[str, typer.Argument(help="The sweep's id.")],
    out: Annotated[Path | None, typer.Option(help="The Parquet file to write; default: <id>.parquet.")] = None,
    server: Server = DEFAULT_URL,
) -> None:
    """Download the samples of a finished sweep as Parquet, and print its summary."""
    from ampsweep.cli.summary import show_summary

    target = out or Path(f"{sweep}.parquet")
    if not target.parent.is_dir():
        raise InvalidRequest(f"there is no folder {target.parent}", param="out")
    with Client(server) as client:
        client.download(sweep, target)
        summary = client.summary(sweep)
    show_summary(summary["rows"], summary["best_factors"])
    typer.echo(f"samples: {target}")
