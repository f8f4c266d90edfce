"""The id of every request: the `X-Request-ID` of the client or a new one, returned in the response and logged."""

from __future__ import annotations

import logging
import re
import secrets

import structlog
from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ampsweep.errors import AmpsweepError
from api.errors import ours

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
_USABLE = re.compile(rb"[0-9A-Za-z._:-]{1,128}")


class RequestIdMiddleware:
    """The outermost ASGI middleware: it names a request, and answers what nobody foresaw, without its details."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name a request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _of(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        begun = False

        async def named(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:
            log.exception("unhandled exception")
            if begun:
                raise
            error = AmpsweepError("something went wrong in the server; its log says what")
            await ours(error)(scope, receive, named)


def _of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER.lower().encode() and _USABLE.fullmatch(value):
            return str(value.decode())
    return f"req_{secrets.token_hex(16)}"


async def _log_ids(request: Request) -> None:
    if sweep_id := request.path_params.get("sweep_id"):
        log_sweep(sweep_id)


def log_sweep(sweep_id: str) -> None:
    """Let what is logged of the request from now on name a sweep."""
    structlog.contextvars.bind_contextvars(sweep_ids=[sweep_id])


log_ids = Depends(_log_ids)
"""Every route with this names its sweep in the log; the request's own task, and with it the names, ends with it."""
