"""`ampsweep cancel`: stop a sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.server import Server
from ampsweep.client import DEFAULT_URL, Client


def cancel(
    sweep: Annotated[str, typer.Argument(help="The sweep's id.")],
    server: Server = DEFAULT_URL,
) -> None:
    """Stop a sweep. Its finished cells are kept, and reused by any sweep that asks for them again."""
    with Client(server) as client:
        record = client.cancel(sweep)
    typer.echo(f"{record.id} {record.status}")
