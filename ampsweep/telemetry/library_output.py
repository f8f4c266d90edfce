"""Sends what libraries print to a log file, so that a process's own output stays readable.

The libraries of an engine print in many ways: loggers and warnings, progress bars on `sys.stderr`, C++ code on the file
descriptors, and processes that inherit those. `divert` therefore points the descriptors of standard output and standard
error at the log file for the rest of the process, and keeps the original ones for `own_stream`.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TextIO

KEPT_LOGS = 20
"""How many log files a folder keeps; older ones are deleted."""


class _Diversion:
    """The log file, and the streams that standard output and standard error were before."""

    path: Path | None = None
    streams: dict[int, TextIO] = {}  # noqa: RUF012  (one per process)


def log_file(folder: Path | None, command: str) -> Path:
    """Return the path of a new log file, and delete old ones.

    Args:
        folder: Where it is to be; it is created. Without one, or if it cannot be written, a new temporary folder takes
            its place.
        command: What the process runs, for the name.
    """
    try:
        if folder is None:
            raise PermissionError
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        folder = Path(mkdtemp(prefix="ampsweep-logs-"))
    logs = sorted(folder.glob("*.log"), key=_modified)
    for old in logs[: max(0, len(logs) - KEPT_LOGS + 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{command}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.log"


def can_divert() -> bool:
    """Return whether `divert` may be called: `sys.stdout` and `sys.stderr` are the descriptors 1 and 2."""
    return _is_descriptor(sys.stdout, 1) and _is_descriptor(sys.stderr, 2)


def divert(path: Path | None) -> None:
    """Append to `path` all that this process and its children print from now on, except by `own_stream`.

    Args:
        path: The log file. None sends everything to standard error, so that standard output holds results alone.
    """
    assert can_divert(), "standard output or standard error has been replaced"
    if _Diversion.streams:
        return
    log = os.dup(2) if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        copy = os.dup(number)
        _Diversion.streams[number] = open(  # noqa: SIM115, PTH123  (open until the process ends)
            copy, "w", encoding=stream.encoding, errors=stream.errors, buffering=1
        )
        os.dup2(log, number)
    os.close(log)
    _Diversion.path = path
    atexit.register(_delete_empty_log)


def own_stream(*, err: bool = False) -> TextIO:
    """Return the stream of the process's own output: standard output or, with `err`, standard error."""
    return _Diversion.streams.get(2 if err else 1, sys.stderr if err else sys.stdout)


@contextmanager
def undiverted() -> Iterator[None]:
    """Give standard output and standard error back within the block, for a dialogue that writes to them itself."""
    diverted = {number: os.dup(number) for number in _Diversion.streams}
    for number, stream in _Diversion.streams.items():
        os.dup2(stream.fileno(), number)
    try:
        yield
    finally:
        for number, copy in diverted.items():
            (sys.stdout if number == 1 else sys.stderr).flush()
            os.dup2(copy, number)
            os.close(copy)


def discard_output_of_lost_terminal() -> None:
    """Redirect standard output and error to /dev/null if their terminal was closed, where every write would fail."""
    numbers = {1, 2, *(stream.fileno() for stream in _Diversion.streams.values())}
    lost = [number for number in numbers if _is_lost_terminal(number)]
    if not lost:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in lost:
        os.dup2(nowhere, number)
    os.close(nowhere)


def is_diverted() -> bool:
    """Return whether what libraries print goes to a log file."""
    return _Diversion.path is not None


def library_log() -> Path | None:
    """Return the log file if libraries have printed anything into it, else None."""
    path = _Diversion.path
    with suppress(OSError):
        if path is not None and path.stat().st_size:
            return path
    return None


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def _is_lost_terminal(number: int) -> bool:
    """Return whether a descriptor is that of a terminal that was closed: reading its attributes fails with EIO."""
    try:
        termios.tcgetattr(number)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    return False


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _delete_empty_log() -> None:
    """Delete the log file at the end of the process that made it, if nothing was printed."""
    path = _Diversion.path
    if path is not None and library_log() is None and path.name.endswith(f"-{os.getpid()}.log"):
        path.unlink(missing_ok=True)
