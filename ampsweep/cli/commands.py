"""All commands, in the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from ampsweep.cli.batch import batch
from ampsweep.cli.cancel import cancel
from ampsweep.cli.doctor import doctor
from ampsweep.cli.engines import app as engines
from ampsweep.cli.export import export
from ampsweep.cli.failures import Commands
from ampsweep.cli.generate import generate
from ampsweep.cli.identify import identify
from ampsweep.cli.keys import app as keys
from ampsweep.cli.neurons import app as neurons
from ampsweep.cli.pause import pause
from ampsweep.cli.report import report
from ampsweep.cli.results import results
from ampsweep.cli.resume import resume
from ampsweep.cli.run import run
from ampsweep.cli.serve import serve
from ampsweep.cli.status import status
from ampsweep.cli.submit import submit
from ampsweep.version import __version__


def _print_version(asked: bool) -> None:
    if asked:
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
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take the options of no command in particular."""


app.command()(serve)
app.command()(run)
app.command()(submit)
app.command()(status)
app.command()(results)
app.command()(report)
app.command()(cancel)
app.command()(pause)
app.command()(resume)
app.command()(identify)
app.add_typer(neurons, name="neurons")
app.add_typer(keys, name="keys")
app.add_typer(engines, name="engines")
app.command()(batch)
app.command()(generate)
app.command()(doctor)
app.command()(export)


def main() -> None:
    """Run the command line with the arguments of this process."""
    app()
