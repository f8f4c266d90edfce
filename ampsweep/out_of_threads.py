"""Recognizes threads and processes that the system did not start, and turns them into errors with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ampsweep.errors import EngineFailed

_TEXTS = re.compile(r"can't start new thread|pthread_create|resource temporarily unavailable", re.IGNORECASE)
TOO_FEW = "raise the limit on processes and threads (ulimit -u, or that of the container)"
"""The remedy for a thread or process that cannot be started."""


def is_out_of_threads(error: BaseException) -> bool:
    """Return whether an exception says that a thread or process could not be started."""
    return isinstance(error, RuntimeError | OSError) and _TEXTS.search(str(error)) is not None


@contextmanager
def named_thread_failures(doing: str) -> Iterator[None]:
    """Raise EngineFailed where a thread or process cannot be started in the block; `doing` says what the block does."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not is_out_of_threads(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise EngineFailed(f"no further thread or process can be started {doing}; {TOO_FEW} ({reason})") from error
