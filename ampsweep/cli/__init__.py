"""The command line: the one place that puts the rooms together, with its heavy imports inside the commands."""

from __future__ import annotations

import typer

from ampsweep.cli import batch, cancel, generate, identify, neurons, results, run, serve, status, submit
from ampsweep.cli.failures import Commands

app = typer.Typer(
    cls=Commands,
    help="Amplify the language-specific neurons of a multilingual LLM, at scale.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(serve.serve)
app.command()(run.run)
app.command()(submit.submit)
app.command()(status.status)
app.command()(results.results)
app.command()(cancel.cancel)
app.command()(identify.identify)
app.add_typer(neurons.app, name="neurons")
app.command()(batch.batch)
app.command()(generate.generate)


def main() -> None:
    """Run the command line with the arguments of this process."""
    app()
