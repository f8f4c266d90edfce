"""Recognizes threads and processes that the system did not start, and turns them into errors with a remedy.

`started_threads` starts threads before they are needed, so that later calls need no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

from ampsweep.errors import AmpsweepError, EngineFailed

_TEXTS = re.compile(r"can't start new thread|pthread_create|resource temporarily unavailable", re.IGNORECASE)
TOO_FEW = "raise the limit on processes and threads (ulimit -u, or that of the container)"
"""The remedy for a thread or process that cannot be started."""


def is_out_of_threads(error: BaseException) -> bool:
    """Return whether an exception says that a thread or process could not be started."""
    return isinstance(error, RuntimeError | OSError) and _TEXTS.search(str(error)) is not None


@contextmanager
def named_thread_failures(doing: str, kind: type[AmpsweepError] = EngineFailed) -> Iterator[None]:
    """Raise an error with the remedy where a thread or process cannot be started in the block.

    Args:
        doing: What the block does, as in "to load atlas".
        kind: The class of the error; `Unavailable` for what may succeed later.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not is_out_of_threads(error):
            raise
        raise kind(thread_failure(error, doing)) from error


def thread_failure(error: BaseException, doing: str) -> str:
    """Return the message about a thread or process that could not be started."""
    reason = " ".join(str(error).split())[:200]
    return f"no further thread or process can be started {doing}; {TOO_FEW} ({reason})"


def started_threads(count: int) -> ThreadPoolExecutor:
    """Return an executor of `count` threads that run already.

    An executor that cannot start a thread at a call raises an error, but makes the call later nevertheless.
    """
    executor, all_run = ThreadPoolExecutor(count), Barrier(count + 1)
    try:
        for _ in range(count):
            executor.submit(all_run.wait)
        all_run.wait()
    except BaseException:
        all_run.abort()
        raise
    return executor
