"""Recognizes failed allocations, of PyTorch, Triton, Python or the system, and turns them into errors with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ampsweep.errors import EngineFailed

_TEXTS = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|cannot allocate memory|bad_alloc|out of memory|failed to map segment",
    re.IGNORECASE,
)
_REMEDY = (
    "choose --dtype bfloat16, a smaller model or shorter texts, free memory, or raise its limits (ulimit -v, that of a "
    "container or a job)"
)
_SHOWN = 200
"""Characters of the allocator's message that are shown."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception, or one that caused it, is a failed allocation."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return False
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError" or _TEXTS.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def out_of_memory(error: BaseException, doing: str) -> EngineFailed:
    """Return the error of a failed allocation (param "dtype"); `doing` says during what it failed."""
    reason = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    return EngineFailed(f"not enough memory {doing}; {_REMEDY} ({reason})", param="dtype")


def death_of_engine(error: BaseException) -> EngineFailed:
    """Return the error of an engine that died of an exception; a failed allocation is named."""
    if is_out_of_memory(error):
        return out_of_memory(error, "for the requests in flight, of which the engine died")
    return EngineFailed(f"the engine died: {type(error).__name__}: {error}")


@contextmanager
def named_allocation_failures(doing: str) -> Iterator[None]:
    """Raise EngineFailed (param "dtype") where an allocation fails in the block; `doing` says what the block does."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError, ImportError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, doing) from error
