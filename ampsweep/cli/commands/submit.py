"""`ampsweep submit`: send a spec to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, client_of, follow
from ampsweep.cli.terminal.failures import FAILED, fail_where_incomplete
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.client.clients import DEFAULT_URL


def submit(
    spec: Annotated[Path, typer.Argument(help="The sweep: a YAML or JSON file.")],
    server: Server = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Show its progress and wait for its end.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second call with the same key sends nothing new.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Sweeps of higher priority go first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Send a sweep to a server and print its id; with --watch, once more how it ended."""
    with client_of(server) as client:
        sweep = client.submit(spec, idempotency_key=idempotency_key, priority=priority)
        warn(sweep.warnings)
        show(sweep.model_dump(), sweep.id, as_json=as_json)
        if not watch:
            return
        sweep = follow(client, sweep)
    show(sweep.model_dump(), f"{sweep.id} {sweep.status}", as_json=as_json)
    fail_where_incomplete(error.message for error in sweep.errors)
    if sweep.status != "completed" or sweep.request_counts.failed:
        raise typer.Exit(FAILED)
