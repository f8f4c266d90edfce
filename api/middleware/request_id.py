"""Identifies requests: by `X-Request-ID` in the response and the log, and in the log also by the sweep they concern.

The request id is the one that the client sends, or a new one. Both ids are structlog context variables.
"""

from __future__ import annotations

import logging
import re
import secrets

import structlog
from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ampsweep.errors import AmpsweepError
from api.errors import error_response

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
_VALID_ID = re.compile(rb"[0-9A-Za-z._:-]{1,128}")


class RequestIdMiddleware:
    """The outermost ASGI middleware. It assigns the request id, and answers 500 without details to any exception."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Assign an id to a request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("unhandled exception")
            if started:
                raise
            error = AmpsweepError(f"internal error; the server's log describes it under the request id {request_id}")
            await error_response(error)(scope, receive, send_with_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER.lower().encode() and _VALID_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{secrets.token_hex(16)}"


def bind_sweep(sweep_id: str) -> None:
    """Add a sweep's id to everything that is logged for this request from now on."""
    structlog.contextvars.bind_contextvars(sweep_ids=[sweep_id])


async def _bind_sweep_of_path(request: Request) -> None:
    if sweep_id := request.path_params.get("sweep_id"):
        bind_sweep(sweep_id)


bind_sweep_of_path = Depends(_bind_sweep_of_path)
"""Binds the sweep in a route's path, for the duration of the request: its task has a context of its own."""
