"""The option and the client that all commands share which speak to a server."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.progress import Counter
from ampsweep.client import DEFAULT_URL, Client
from ampsweep.replies import Sweep

Server = Annotated[str, typer.Option(envvar="AMPSWEEP_SERVER", help="The server's URL.", show_default=DEFAULT_URL)]


def follow(client: Client, sweep: Sweep) -> Sweep:
    """Show the progress of a sweep until it has ended, and return it as it stands then."""
    last = sweep
    with Counter(sweep.name or sweep.id) as counter:
        for seen in client.watch(sweep.id):
            last = seen
            counts = seen.request_counts
            failed = f", {counts.failed} failed" if counts.failed else ""
            counter.show(counts.completed + counts.failed, counts.total, f"cells, {seen.status}{failed}")
    return last
