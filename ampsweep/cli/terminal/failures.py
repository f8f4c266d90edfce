"""How a command fails: one line that names the field and the remedy, and an exit code.

0   done
1   it failed: an engine, cells of a sweep, a check of `doctor`, a defect of ours
2   the input is wrong: an option, a field, a file that cannot be read or written, a name
3   there is no such thing, or its state does not allow it
4   the server asks for an API key, or for one that opens more
5   not now: a full disk, no server there, none that answers, one that is too busy or still starting
130 stopped by Ctrl-C, 143 by SIGTERM

With `--json` among the arguments the line is the object that the server answers errors with.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ampsweep.errors import (
    AmpsweepError,
    Conflict,
    EngineFailed,
    Forbidden,
    NoConnection,
    NotFound,
    RateLimited,
    TooManyStreams,
    Unauthenticated,
    Unavailable,
)

TRACEBACK = "AMPSWEEP_TRACEBACK"
"""Set in the environment, it brings back the traceback of an error that nobody foresaw."""

FAILED, WRONG_INPUT, NOT_THERE, EXIT_UNAUTHORIZED, EXIT_UNAVAILABLE = 1, 2, 3, 4, 5

_CODES: Sequence[tuple[type[AmpsweepError], int]] = (
    (NotFound, NOT_THERE),
    (Conflict, NOT_THERE),
    (Unauthenticated, EXIT_UNAUTHORIZED),
    (Forbidden, EXIT_UNAUTHORIZED),
    (RateLimited, EXIT_UNAVAILABLE),
    (TooManyStreams, EXIT_UNAVAILABLE),
    (Unavailable, EXIT_UNAVAILABLE),
)

_REMEDIES: Sequence[tuple[type[AmpsweepError], str]] = (
    (NoConnection, "start one with `ampsweep serve`, or name another with --server or AMPSWEEP_URL"),
    (Unauthenticated, "set AMPSWEEP_API_KEY to one that `ampsweep keys create` made on the server"),
)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FILE_REMEDIES: Sequence[tuple[type[OSError], str]] = (
    (PermissionError, "give a path that this user may use, or change its permissions"),
    (FileNotFoundError, "give a path that is there"),
    (NotADirectoryError, "give a path whose parents are folders"),
    (IsADirectoryError, "give the path of a file"),
    (FileExistsError, "give another path"),
)

_ENDS = (typer.Exit, typer.Abort, BrokenPipeError)
"""What typer itself ends a command by."""

_JSON = "ampsweep.json"


class Commands(TyperGroup):
    """The top-level group; it turns exceptions into a line and an exit code, for tests and for the shell alike."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments before the command's name, and look how errors are to be told."""
        ctx.meta[_JSON] = "--json" in takewhile(lambda word: word != "--", args)
        try:
            return super().parse_args(ctx, args)
        except _ENDS:
            raise
        except Exception as error:
            _fail(error, as_json=ctx.meta[_JSON])
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except _ENDS:
            raise
        except Exception as error:
            _fail(error, as_json=ctx.meta[_JSON])
            raise


def describe(error: AmpsweepError) -> str:
    """Return an error as one line that names its field."""
    named = error.param is None or error.message.startswith(error.param)
    return " ".join((error.message if named else f"{error.param}: {error.message}").split())


def fail_where_incomplete(messages: Iterable[str]) -> None:
    """End a command with what its sweep's results lack, if they lack something; they are printed by then."""
    for message in messages:
        raise EngineFailed(message)


def exit_code(error: AmpsweepError) -> int:
    """Return the code that a command ends with."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return WRONG_INPUT if error.type == "invalid_request_error" else FAILED


def _fail(error: Exception, *, as_json: bool) -> None:
    """Say what went wrong and end the command; return where a traceback, or the usage of a group, says it better."""
    if isinstance(error, AmpsweepError):
        remedy = next((f"; {text}" for kind, text in _REMEDIES if isinstance(error, kind)), "")
        _say(f"{describe(error)}{remedy}", error.type, error.param, error.code, as_json=as_json)
        raise typer.Exit(exit_code(error)) from error
    if _is_usage_error(error):
        if _is_help(error):
            return
        _say(_usage(error), "invalid_request_error", None, "usage", as_json=as_json)
        raise typer.Exit(WRONG_INPUT) from error
    if isinstance(error, OSError) and error.filename is not None:
        full = error.errno in _FULL
        kind, code = ("server_error", "unavailable") if full else ("invalid_request_error", "invalid_request")
        _say(_of_file(error), kind, None, code, as_json=as_json)
        raise typer.Exit(EXIT_UNAVAILABLE if full else WRONG_INPUT) from error
    if os.environ.get(TRACEBACK):
        return
    text = f"{type(error).__name__}: {' '.join(str(error).split())} ({TRACEBACK}=1 shows where)"
    _say(text, "server_error", None, "internal_error", as_json=as_json)
    raise typer.Exit(FAILED) from error


def _of_file(error: OSError) -> str:
    """Return what the system refuses about a file or folder, as one line with the path and the remedy."""
    path = Path(os.fsdecode(error.filename))
    if path.name.startswith(".") and path.suffix == ".tmp":
        path = path.parent  # of a file that was to be published there, see `atomic_write`
    remedy = next((text for kind, text in _FILE_REMEDIES if isinstance(error, kind)), "look at the disk")
    if error.errno in _FULL:
        remedy = "make room on that disk, and send the same command again"
    return f"{path}: {(error.strerror or type(error).__name__).lower()}; {remedy}"


def _usage(error: Any) -> str:
    """Return what typer complains about as one line that says where to read on."""
    text = " ".join(error.format_message().split()).rstrip(".")
    ctx = getattr(error, "ctx", None)
    return text if ctx is None else f"{text} (see {ctx.command_path} --help)"


def _is_usage_error(error: Exception) -> bool:
    """Whether typer itself found the arguments wrong."""
    return hasattr(error, "format_message")


def _is_help(error: Exception) -> bool:
    """Whether it is the help of a group that was called without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _say(message: str, kind: str, param: str | None, code: str, *, as_json: bool) -> None:
    if as_json:
        body = {"message": message, "type": kind, "param": param, "code": code}
        typer.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"error: {message}", err=True)
