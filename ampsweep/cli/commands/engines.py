"""`ampsweep engines` and `ampsweep engines retry MODEL`: a server's engines, and a retry of failed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import models
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import InvalidRequest
from ampsweep.telemetry.start_phase import start_text

if TYPE_CHECKING:
    from ampsweep.client.models import Engine

app = typer.Typer(
    help="List the engines of a server; retry those that have failed.",
    invoke_without_command=True,
    add_completion=False,
)


@app.callback()
def engines(ctx: typer.Context, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the engines of a server, with their states."""
    if ctx.invoked_subcommand is not None:
        for param, option in (("server", "--server URL"), ("as_json", "--json")):
            source = ctx.get_parameter_source(param)
            if source is not None and source.name == "COMMANDLINE":  # another default would be used
                subcommand = ctx.invoked_subcommand
                message = f"goes behind {subcommand}: ampsweep engines {subcommand} MODEL {option}"
                raise InvalidRequest(message, param=option.split(" ")[0])
        return
    with client_of(server) as client:
        _show(client.engines(), as_json=as_json)


@app.command()
def retry(
    model: Annotated[str, typer.Argument(help="The model whose engines to retry.", autocompletion=models)],
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Restart now those engines of a model that have failed or wait for a restart. Needs a key with the scope admin."""
    with client_of(server) as client:
        _show(client.retry_engines(model), as_json=as_json)


def _show(listed_engines: list[Engine], *, as_json: bool) -> None:
    for engine in listed_engines:
        phase = f" ({start_text(engine['phase'], engine['start_seconds'])})" if engine["phase"] is not None else ""
        failures = f", {engine['failures']} failures in a row" if engine["failures"] else ""
        error = f"  {engine['error']}" if engine["error"] else ""
        show(
            engine, f"{engine['id']:<24} {engine['engine']}  {engine['state']}{phase}{failures}{error}", as_json=as_json
        )
