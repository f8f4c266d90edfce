"""`ampsweep pause`: begin no more cells of a sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.server import Server
from ampsweep.client import DEFAULT_URL, Client


def pause(
    sweep: Annotated[str, typer.Argument(help="The sweep's id.")],
    server: Server = DEFAULT_URL,
) -> None:
    """Begin no more cells of a sweep, until it is resumed; what runs goes on."""
    with Client(server) as client:
        record = client.pause(sweep)
    typer.echo(f"{record.id} {record.status}")
