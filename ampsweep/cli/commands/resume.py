"""`ampsweep resume`: let a paused sweep go on."""

from __future__ import annotations

from ampsweep.cli.options.client import Server, SweepId, client_of
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.clients import DEFAULT_URL


def resume(sweep: SweepId, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Let a paused sweep go on."""
    with client_of(server) as client:
        record = client.resume(sweep)
    show(record.model_dump(), f"{record.id} {record.status}", as_json=as_json)
