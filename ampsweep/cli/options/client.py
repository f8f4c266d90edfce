"""Options, client and output shared by the commands that talk to a server."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.progress import Counter
from ampsweep.client.clients import DEFAULT_URL, URL, Client
from ampsweep.client.models import Sweep

Server = Annotated[str, typer.Option(envvar=URL, help="The server's URL.", show_default=DEFAULT_URL)]
SweepId = Annotated[str, typer.Argument(help="The sweep's id.", autocompletion=sweeps)]

RETRIES = 2
"""Fewer than the client's default: a user at a terminal should learn within seconds that there is no server."""


def client_of(server: str) -> Client:
    """Return the client of a server for a command."""
    return Client(server, retries=RETRIES)


def line(sweep: Sweep) -> str:
    """Return a one-line description of a sweep."""
    counts = sweep.request_counts
    failed = f", {counts.failed} failed" if counts.failed else ""
    error = f"  {sweep.error}" if sweep.error else ""
    return f"{sweep.id}  {sweep.status:<11}  {counts.completed}/{counts.total} cells{failed}  {sweep.name}{error}"


def follow(client: Client, sweep: Sweep) -> Sweep:
    """Show the progress of a sweep until it has ended, and return its final state."""
    last = sweep
    with Counter(sweep.name or sweep.id) as counter:
        for current in client.watch(sweep.id):
            last = current
            counts = current.request_counts
            failed = f", {counts.failed} failed" if counts.failed else ""
            counter.show(counts.completed + counts.failed, counts.total, f"cells, {current.status}{failed}")
    return last
