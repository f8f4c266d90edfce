"""`ampsweep submit`: send a spec to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.server import Server, follow
from ampsweep.client import DEFAULT_URL, Client


def submit(
    spec: Annotated[Path, typer.Argument(help="The sweep: a YAML or JSON file.")],
    server: Server = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Show its progress and wait for its end.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second call with the same key sends nothing new.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Sweeps of higher priority go first.")] = 0,
) -> None:
    """Send a sweep to a server and print its id."""
    with Client(server) as client:
        sweep = client.submit(spec, idempotency_key=idempotency_key, priority=priority)
        typer.echo(sweep.id)
        if not watch:
            return
        sweep = follow(client, sweep)
    typer.echo(f"{sweep.id} {sweep.status}")
    if sweep.status != "completed":
        raise typer.Exit(1)
