"""The command line, which connects all packages. Commands import heavy modules only when they run."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a command that Ctrl-C has ended."""


def main() -> None:
    """Run the command line with the arguments of this process.

    Ctrl-C ends it with exit code 130 and without a traceback, also while modules are still being imported.
    """
    is_interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_interruptible:  # nothing has been opened yet, and an import could swallow a KeyboardInterrupt
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    escape_what_cannot_be_printed()
    from ampsweep.cli.app import app

    try:
        if is_interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        if is_interruptible:  # threads may still run, and Python would report an interrupt while it waits for them
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def escape_what_cannot_be_printed() -> None:
    """Let standard output escape characters that its encoding lacks, as standard error does, instead of failing."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
