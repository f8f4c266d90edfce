"""`ampsweep cancel`: stop a sweep."""

from __future__ import annotations

from ampsweep.cli.options.client import Server, SweepId, client_of
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.clients import DEFAULT_URL


def cancel(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Stop a sweep. Its finished cells are kept, and reused by any sweep that asks for them again."""
    with client_of(server) as client:
        record = client.cancel(sweep)
    show(record.model_dump(), f"{record.id} {record.status}", as_json=as_json)
