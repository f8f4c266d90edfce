"""Keeps what the libraries of an engine print away from a command's own output."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ampsweep.telemetry.library_output import can_divert, divert, log_file, own_stream


def quiet_libraries(
    command: str, *, verbose: bool = False, folder: Path | None = None, own_warnings: bool = True
) -> Path | None:
    """Send what the libraries of an engine print to a log file or, with `verbose`, to standard error.

    Call this before an engine is opened. It applies until the process ends. Within another program, whose standard
    error must stay as it is, only the libraries' own settings are changed.

    Args:
        command: The name of the command, for that of the log file.
        verbose: Whether the user wants to see the messages.
        folder: Where the log file is to be, by default in the user's cache.
        own_warnings: Whether warnings that this project's own modules log are printed as lines.

    Returns:
        The log file, or None if there is none.
    """
    if not verbose:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    diverts = can_divert()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if diverts else "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not diverts:
        return None
    log = None if verbose else log_file(folder or user_logs(), command)
    divert(log)
    if own_warnings:
        _print_own_warnings()
    return log


def user_logs() -> Path | None:
    """Return the folder of the log files of commands; None for a user without a home, as in some containers."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return cache / "ampsweep" / "logs"


def _print_own_warnings() -> None:
    from ampsweep.telemetry.logs import OURS

    handler = logging.StreamHandler(own_stream(err=True))
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).addHandler(handler)
