"""The sweep that a request is about stands in all that the log says while it is answered."""

from __future__ import annotations

import structlog
from fastapi import Depends, Request


async def _log_ids(request: Request) -> None:
    if sweep_id := request.path_params.get("sweep_id"):
        log_sweep(sweep_id)


def log_sweep(sweep_id: str) -> None:
    """Let what is logged of the request from now on name a sweep."""
    structlog.contextvars.bind_contextvars(sweep_ids=[sweep_id])


log_ids = Depends(_log_ids)
"""Every route with this names its sweep in the log; the request's own task, and with it the names, ends with it."""
