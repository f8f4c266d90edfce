"""`ampsweep status`: what a server is doing, or has done."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.options.client import Server, client_of, line
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.client.clients import DEFAULT_URL
from ampsweep.client.models import Cell
from ampsweep.errors import InvalidRequest


def status(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's id; without one, all sweeps are listed.", autocompletion=sweeps)
    ] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Print the sweep's cells that failed or have failed samples, and why.")
    ] = False,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print one sweep, or all of a server's sweeps, newest first."""
    if failures and sweep is None:
        raise InvalidRequest("say of which sweep: ampsweep status ID --failures", param="sweep")
    with client_of(server) as client:
        for record in client.sweeps() if sweep is None else [client.sweep(sweep)]:
            warn(error.message for error in record.errors if sweep is not None)
            show(record.model_dump(), line(record), as_json=as_json)
        if sweep is not None and failures:
            for cell in client.cells(sweep, failures=True):
                show(cell, _failure(cell), as_json=as_json)


def _failure(cell: Cell) -> str:
    """Return a cell and its reason as one line."""
    task, asked = cell["task"], cell["intervention"]
    steered = "" if asked is None else f" to {'+'.join(asked['languages'])} {asked['op']} x {asked['factor']:g}"
    count = "failed" if cell["error"] else f"{cell['failed_samples']} of {cell['samples']} samples failed"
    reason = " ".join(str(cell["error"] or cell["sample_error"]).split())
    return f"{cell['id']}  {task['name']} {task['data_language']}{steered}  {count}: {reason}"
