"""The command-line application: all commands, in the order of the help."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.commands.batch import batch
from ampsweep.cli.commands.capture import capture
from ampsweep.cli.commands.doctor import doctor
from ampsweep.cli.commands.engines import app as engines
from ampsweep.cli.commands.evaluate import evaluate
from ampsweep.cli.commands.export import export
from ampsweep.cli.commands.generate import generate
from ampsweep.cli.commands.identify import identify
from ampsweep.cli.commands.init import init
from ampsweep.cli.commands.keys import app as keys
from ampsweep.cli.commands.list_offers import list_offers
from ampsweep.cli.commands.neurons import app as neurons
from ampsweep.cli.commands.plan import plan
from ampsweep.cli.commands.report import report
from ampsweep.cli.commands.run import run
from ampsweep.cli.commands.samples import samples
from ampsweep.cli.commands.serve import serve
from ampsweep.cli.commands.sweeps import cancel, delete, edit, pause, results, resume, status, submit
from ampsweep.cli.terminal.failures import Commands
from ampsweep.own_packages import require_own_packages
from ampsweep.version import __version__


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    help="Amplify the language-specific neurons of a multilingual LLM, at scale.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Check what the command will import, unless the command is `doctor`, which reports the problem itself."""
    if ctx.invoked_subcommand != "doctor":
        require_own_packages()


app.command()(serve)
app.command()(run)
app.command()(init)
app.command()(plan)
app.command()(submit)
app.command()(status)
app.command()(results)
app.command()(samples)
app.command()(report)
app.command()(evaluate)
app.command()(cancel)
app.command()(pause)
app.command()(resume)
app.command()(edit)
app.command()(delete)
app.command()(identify)
app.add_typer(neurons, name="neurons")
app.add_typer(keys, name="keys")
app.add_typer(engines, name="engines")
app.command(name="list")(list_offers)
app.command()(batch)
app.command()(capture)
app.command()(generate)
app.command()(doctor)
app.command()(export)
