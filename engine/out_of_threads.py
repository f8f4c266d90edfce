"""Recognizes threads and processes that the system did not start, and turns them into errors with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ampsweep.errors import EngineFailed

_TEXTS = re.compile(r"can't start new thread|pthread_create|resource temporarily unavailable", re.IGNORECASE)


@contextmanager
def named_thread_failures(doing: str) -> Iterator[None]:
    """Raise EngineFailed where a thread or process cannot be started in the block; `doing` says what the block does."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _TEXTS.search(str(error)):
            raise
        raise EngineFailed(
            f"too few processes and threads are allowed {doing}; raise their limit (ulimit -u, that of a container "
            f"or a job) ({' '.join(str(error).split())[:200]})"
        ) from error
