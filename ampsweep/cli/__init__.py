"""The command line, which connects all packages. Commands import heavy modules only when they run."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a command that Ctrl-C has ended."""


def main() -> None:
    """Run the command line with the arguments of this process.

    Ctrl-C ends it with exit code 130 and without a traceback, also while modules are still being imported. SIGTERM and
    SIGHUP end it with 143 and 129, after it has deleted its temporary files.
    """
    open_closed_streams()
    is_interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_interruptible:  # nothing has been opened yet, and an import could swallow a KeyboardInterrupt
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    escape_what_cannot_be_printed()
    from ampsweep.cli.app import app

    deadly = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in deadly:
            signal.signal(number, _end)
        if is_interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        for number in deadly:
            signal.signal(number, signal.SIG_DFL)
        if is_interruptible:  # threads may still run, and Python would report an interrupt while it waits for them
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    """Leave all `finally` blocks and `with` statements; a second signal of the same kind does not wait for them."""
    signal.signal(number, signal.SIG_DFL)
    if number == signal.SIGHUP:
        from ampsweep.telemetry.library_output import discard_output_of_lost_terminal

        discard_output_of_lost_terminal()
    raise SystemExit(128 + number)


def open_closed_streams() -> None:
    """Point standard input, output and error at /dev/null where the caller has closed them (`>&-`).

    Otherwise the next files that are opened take their descriptors, and what libraries print is written into them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def escape_what_cannot_be_printed() -> None:
    """Let standard output escape characters that its encoding lacks, as standard error does, instead of failing."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
