"""`ampsweep pause`: begin no more cells of a sweep."""

from __future__ import annotations

from ampsweep.cli.options.client import Server, SweepId, client_of
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.clients import DEFAULT_URL


def pause(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Begin no more cells of a sweep, until it is resumed; what runs goes on."""
    with client_of(server) as client:
        record = client.pause(sweep)
    show(record.model_dump(), f"{record.id} {record.status}", as_json=as_json)
