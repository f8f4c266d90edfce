"""Error messages and exit codes of commands. An error is one line that names the field and the remedy.

0   success
1   failure: of an engine, of cells of a sweep, of a check of `doctor`, or a bug
2   invalid input: an option, a field, a name, or a file that cannot be read or written
3   the object does not exist, or its state does not allow the operation
4   the server needs an API key, or a key with more scopes
5   temporarily unavailable: a full disk, too few threads; a server that is not running, does not answer, or is busy
130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP (its terminal was closed)

With `--json` among the arguments, the line is an error object as in the server's responses.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ampsweep.cli.terminal.help import name_values
from ampsweep.cli.terminal.option_names import command_of, in_words_of_options
from ampsweep.cli.terminal.output import echo
from ampsweep.errors import (
    AmpsweepError,
    Conflict,
    DataUnavailable,
    EngineFailed,
    Forbidden,
    InvalidRequest,
    NoConnection,
    NotFound,
    RateLimited,
    TooManyBatches,
    TooManyStreams,
    Unauthenticated,
    Unavailable,
    shortened,
)
from ampsweep.files import FREE_SPACE, is_full, not_utf8
from ampsweep.out_of_threads import TOO_FEW, is_out_of_threads
from ampsweep.telemetry.library_output import library_log, own_stream

TRACEBACK = "AMPSWEEP_TRACEBACK"
"""Environment variable that makes unexpected errors show their traceback."""

FAILED, WRONG_INPUT, EXIT_NOT_FOUND, EXIT_UNAUTHORIZED, EXIT_UNAVAILABLE = 1, 2, 3, 4, 5

_CODES: Sequence[tuple[type[AmpsweepError], int]] = (
    (NotFound, EXIT_NOT_FOUND),
    (Conflict, EXIT_NOT_FOUND),
    (Unauthenticated, EXIT_UNAUTHORIZED),
    (Forbidden, EXIT_UNAUTHORIZED),
    (RateLimited, EXIT_UNAVAILABLE),
    (TooManyStreams, EXIT_UNAVAILABLE),
    (TooManyBatches, EXIT_UNAVAILABLE),
    (Unavailable, EXIT_UNAVAILABLE),
    (DataUnavailable, EXIT_UNAVAILABLE),
)

_REMEDIES: Sequence[tuple[type[AmpsweepError], str]] = (
    (NoConnection, "start one with `ampsweep serve`, or name another with --server or AMPSWEEP_URL"),
    (Unauthenticated, "set AMPSWEEP_API_KEY to one that `ampsweep keys create` made on the server"),
)

_LARGER_FILES = "raise the limit on the size of files (ulimit -f), or use another file system"
_FILE_REMEDIES: Sequence[tuple[type[OSError], str]] = (
    (PermissionError, "give a path that this user may use, or change its permissions"),
    (FileNotFoundError, "give a path that is there"),
    (NotADirectoryError, "give a path whose parents are folders"),
    (IsADirectoryError, "give the path of a file"),
    (FileExistsError, "give another path"),
)

_ENDS = (typer.Exit, typer.Abort, BrokenPipeError)
"""Exceptions by which typer itself ends a command."""

_PLAIN_WORDS = {
    "Input should be a valid integer, unable to parse string as an integer": "must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "must be a number",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
}
"""What Pydantic says about an option, and the same in the words of the other errors."""
_JSON, _ARGUMENTS = "ampsweep.json", "ampsweep.arguments"

_MAY_BE_EMPTY = ("--by", "--low-resource")
"""Options whose value is a list, which may be empty."""


class Commands(TyperGroup):
    """The top-level group of commands. Turns exceptions into an error line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before the command's name, and find out whether errors are printed as JSON."""
        ctx.meta[_ARGUMENTS] = list(args)
        ctx.meta[_JSON] = "--json" in takewhile(lambda word: word != "--", args)
        try:
            if not ctx.resilient_parsing:  # of a command that a shell completes, which has empty words
                _refuse_empty_values(args)
            return super().parse_args(ctx, args)
        except _ENDS:
            raise
        except Exception as error:
            _fail(error, self, ctx.meta[_ARGUMENTS], as_json=ctx.meta[_JSON])
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters of the program itself, to which typer adds some after it is made."""
        parameters: list[Any] = super().get_params(ctx)
        name_values(parameters)
        return parameters

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except _ENDS:
            raise
        except Exception as error:
            _fail(error, self, ctx.meta[_ARGUMENTS], as_json=ctx.meta[_JSON])
            raise


def describe(error: AmpsweepError) -> str:
    """Return the message of an error as one line that names its field; a very long one is shortened."""
    named = error.param is None or error.message.startswith(error.param)
    return shortened(" ".join((error.message if named else f"{error.param}: {error.message}").split()))


def fail_where_incomplete(messages: Iterable[str]) -> None:
    """Fail a command whose sweep has incomplete results; call it once the results are printed."""
    for message in messages:
        raise EngineFailed(message)


def exit_code(error: AmpsweepError) -> int:
    """Return the exit code of an error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return WRONG_INPUT if error.type == "invalid_request_error" else FAILED


def _refuse_empty_values(args: Sequence[str]) -> None:
    """Raise InvalidRequest for an option with an empty value.

    An unset variable of a shell gives one (`--out "$OUT"`), and Python takes an empty path for the current folder. An
    empty list is a value where an option has another default.
    """
    words = list(takewhile(lambda word: word != "--", args))
    for word, following in zip_longest(words, words[1:]):
        is_empty = word.endswith("=") or following == ""
        if word.startswith("--") and is_empty and word.rstrip("=") not in _MAY_BE_EMPTY:
            param = word.strip("-=").replace("-", "_")
            raise InvalidRequest("the option has an empty value; give one, or leave the option out", param=param)


def _fail(error: Exception, group: TyperGroup, words: Sequence[str], *, as_json: bool) -> None:
    """Print an error and exit. Return if the help of a group or a traceback is to be shown instead."""
    if isinstance(error, AmpsweepError):
        remedy = next((f"; {text}" for kind, text in _REMEDIES if isinstance(error, kind)), "")
        text = in_words_of_options(describe(error), error.param, command_of(group, words), words)
        param = error.param and error.param.removeprefix("--")
        _print_error(f"{text}{remedy}", error.type, param, error.code, as_json=as_json)
        raise typer.Exit(exit_code(error)) from error
    if _is_usage_error(error):
        if _is_help(error):
            return
        _print_error(_usage(error), "invalid_request_error", None, "usage", as_json=as_json)
        raise typer.Exit(WRONG_INPUT) from error
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_current_folder():
        message = "the current folder was deleted; change to another folder"
        _print_error(message, "invalid_request_error", None, "invalid_request", as_json=as_json)
        raise typer.Exit(WRONG_INPUT) from error
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":  # of bytes that Python reads as surrogates
        _print_error(not_utf8(error.object), "invalid_request_error", None, "invalid_request", as_json=as_json)
        raise typer.Exit(WRONG_INPUT) from error
    full = isinstance(error, OSError) and (is_full(error) or error.errno == errno.EFBIG)
    if isinstance(error, OSError) and (full or error.filename is not None):
        kind, code = ("server_error", "unavailable") if full else ("invalid_request_error", "invalid_request")
        _print_error(_file_error(error), kind, None, code, as_json=as_json)
        raise typer.Exit(EXIT_UNAVAILABLE if full else WRONG_INPUT) from error
    if is_out_of_threads(error):
        _print_error(f"{error}; {TOO_FEW}", "server_error", None, "unavailable", as_json=as_json)
        raise typer.Exit(EXIT_UNAVAILABLE) from error
    if os.environ.get(TRACEBACK):
        sys.stderr = own_stream(err=True)  # where the traceback is to appear
        return
    text = f"{type(error).__name__}: {' '.join(str(error).split())} ({TRACEBACK}=1 shows where)"
    _print_error(text, "server_error", None, "internal_error", as_json=as_json)
    raise typer.Exit(FAILED) from error


def _has_current_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  (a path of pathlib need not exist)
    except FileNotFoundError:
        return False
    return True


def _file_error(error: OSError) -> str:
    """Return an error of the file system as one line with the path, if the system names it, and the remedy."""
    if error.filename is None:
        remedy = _LARGER_FILES if error.errno == errno.EFBIG else "free some space on the disk, and run it again"
        return f"{(error.strerror or 'the disk is full').lower()}; {remedy}"
    no_space = is_full(error)
    # A copy names its source first, and its target is what does not fit.
    path = Path(os.fsdecode(error.filename2 if no_space and error.filename2 is not None else error.filename))
    if path.name.startswith(".") and path.suffix == ".tmp":
        path = path.parent  # a temporary file of `atomic_write`
    remedy = next((text for kind, text in _FILE_REMEDIES if isinstance(error, kind)), "check the disk")
    if no_space:
        remedy = f"{FREE_SPACE}, and run the same command again"
    elif error.errno == errno.EFBIG:
        remedy = _LARGER_FILES
    return f"{path}: {(error.strerror or type(error).__name__).lower()}; {remedy}"


def _usage(error: Any) -> str:
    """Return a usage error as one line that names the help to read."""
    text = " ".join(error.format_message().split()).rstrip(".")
    for words, plain in _PLAIN_WORDS.items():
        text = text.replace(words, plain)
    if "unexpected extra argument" in text:
        text += "; put a text with spaces in quotes"
    ctx = getattr(error, "ctx", None)
    return text if ctx is None else f"{text} (see {ctx.command_path} --help)"


def _is_usage_error(error: Exception) -> bool:
    """Return whether an error is one of typer's own about the arguments."""
    return hasattr(error, "format_message")


def _is_help(error: Exception) -> bool:
    """Return whether an error is the help of a group that was called without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _print_error(message: str, kind: str, param: str | None, code: str, *, as_json: bool) -> None:
    if kind == "server_error" and (log := library_log()) is not None:
        message += f" (what the libraries printed is in {log})"
    if as_json:
        body = {"message": message, "type": kind, "param": param and shortened(param), "code": code}
        echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
    else:
        echo(f"error: {message}", err=True)
