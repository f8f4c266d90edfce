"""`ampsweep status`: what a server is doing, or has done."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.completion import sweeps
from ampsweep.cli.output import AsJson, show
from ampsweep.cli.server import Server, client_of, line
from ampsweep.client import DEFAULT_URL


def status(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's id; without one, all sweeps are listed.", autocompletion=sweeps)
    ] = None,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print one sweep, or all of a server's sweeps, newest first."""
    with client_of(server) as client:
        for record in client.sweeps() if sweep is None else [client.sweep(sweep)]:
            show(record.model_dump(), line(record), as_json=as_json)
