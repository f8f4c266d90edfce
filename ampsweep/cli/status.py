"""`ampsweep status`: what a server is doing, or has done."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ampsweep.cli.server import Server
from ampsweep.client import DEFAULT_URL, Client
from ampsweep.replies import Sweep


def status(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's id; without one, all sweeps are listed.")] = None,
    server: Server = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one sweep a line.")] = False,
) -> None:
    """Print one sweep, or all of a server's sweeps, newest first."""
    with Client(server) as client:
        for record in client.sweeps() if sweep is None else [client.sweep(sweep)]:
            typer.echo(json.dumps(record.model_dump()) if as_json else _line(record))


def _line(sweep: Sweep) -> str:
    counts = sweep.request_counts
    failed = f", {counts.failed} failed" if counts.failed else ""
    error = f"  {sweep.error}" if sweep.error else ""
    return f"{sweep.id}  {sweep.status:<11}  {counts.completed}/{counts.total} cells{failed}  {sweep.name}{error}"
