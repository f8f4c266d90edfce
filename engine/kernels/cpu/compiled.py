"""Compiles kernels for CPUs with Numba, which keeps them on disk for the next start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numba

log = logging.getLogger(__name__)


def compiled(signature: str, *, error_model: str = "python") -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function for arguments of these types; it releases the GIL.

    Numba keeps the result beside the source or in the user's cache. Where neither can be written to, as in a container
    with a read-only file system, the function is compiled at every start.

    Args:
        signature: The types of the arguments, as Numba writes them.
        error_model: "numpy" to divide by 0 without an error.
    """
    compile_for = partial(numba.njit, signature, nogil=True, error_model=error_model)

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return compile_for(cache=True)(function)
        except (RuntimeError, OSError):  # there is no folder that can be written to, or the disk is full
            _warn()
            return compile_for()(function)

    return decorate


@cache
def _warn() -> None:
    """Log a warning, once."""
    log.warning(
        "compiled kernels cannot be written to disk, so they are compiled at every start; set NUMBA_CACHE_DIR to a "
        "folder that can be written to"
    )
