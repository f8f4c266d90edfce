"""How a command fails: one line that names the field and the remedy, and an exit code.

0 done · 1 it failed · 2 the input is wrong · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

from ampsweep.errors import AmpsweepError

TRACEBACK = "AMPSWEEP_TRACEBACK"
"""Set in the environment, it brings back the traceback of an error that nobody foresaw."""


class Commands(TyperGroup):
    """The top-level group; it turns exceptions into a line and an exit code, for tests and for the shell alike."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except AmpsweepError as error:
            _say(describe(error))
            raise typer.Exit(2 if error.type == "invalid_request_error" else 1) from error
        except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get(TRACEBACK) or _is_usage_error(error):
                raise
            _say(f"{type(error).__name__}: {' '.join(str(error).split())} ({TRACEBACK}=1 shows where)")
            raise typer.Exit(1) from error


def describe(error: AmpsweepError) -> str:
    """Return an error as one line that names its field."""
    named = error.param is None or error.message.startswith(error.param)
    return " ".join((error.message if named else f"{error.param}: {error.message}").split())


def _is_usage_error(error: Exception) -> bool:
    """Whether typer itself reports it, with the usage of the command."""
    return hasattr(error, "exit_code")


def _say(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
