"""The command-line application: all commands, in the order of the help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ampsweep.cli.command_table import CommandTable
from ampsweep.cli.terminal.failures import Commands
from ampsweep.own_packages import require_own_packages
from ampsweep.version import __version__

COMMANDS: Mapping[str, str] = {
    "serve": "serve.serve",
    "run": "run.run",
    "init": "init.init",
    "plan": "plan.plan",
    "submit": "sweeps.submit",
    "status": "sweeps.status",
    "results": "sweeps.results",
    "samples": "samples.samples",
    "report": "report.report",
    "evaluate": "evaluate.evaluate",
    "cancel": "sweeps.cancel",
    "pause": "sweeps.pause",
    "resume": "sweeps.resume",
    "edit": "sweeps.edit",
    "delete": "sweeps.delete",
    "identify": "identify.identify",
    "list": "list_offers.list_offers",
    "batch": "batch.batch",
    "capture": "capture.capture",
    "generate": "generate.generate",
    "doctor": "doctor.doctor",
    "export": "export.export",
    "neurons": "neurons.app",
    "keys": "keys.app",
    "engines": "engines.app",
}
"""Where each command is, in `ampsweep.cli.commands`."""


class Program(Commands):
    """The program: the commands of `COMMANDS`, of which only the one that is called is built."""

    def __init__(self, **options: Any) -> None:
        """Make the group."""
        self._table = CommandTable(COMMANDS)
        self._lists_commands = False
        super().__init__(**{**options, "commands": self._table})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands; the base class would build them."""
        del ctx
        return list(self._table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; while commands are listed, one with its help alone."""
        del ctx
        if cmd_name not in self._table:
            return None
        return self._table.summary(cmd_name) if self._lists_commands else self._table[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of the program."""
        with self._listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the completions of a command's name."""
        with self._listing():
            completions: list[Any] = super().shell_complete(ctx, incomplete)
        return completions

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self._lists_commands = True
        try:
            yield
        finally:
            self._lists_commands = False


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Program,
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
