"""`ampsweep resume`: let a paused sweep go on."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.server import Server
from ampsweep.client import DEFAULT_URL, Client


def resume(
    sweep: Annotated[str, typer.Argument(help="The sweep's id.")],
    server: Server = DEFAULT_URL,
) -> None:
    """Let a paused sweep go on."""
    with Client(server) as client:
        record = client.resume(sweep)
    typer.echo(f"{record.id} {record.status}")
