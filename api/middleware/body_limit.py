"""Rejects bodies that are too large before they are in memory: by `Content-Length`, or while they are received."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import http_error_response


class BodyLimitMiddleware:
    """ASGI middleware that answers 413 to a body that is too large, chunked or not.

    Args:
        app: The application.
        limit: Maximum number of bytes of a body.
        limits_by_path: Maximum number of bytes for paths that have a limit of their own.
    """

    def __init__(self, app: ASGIApp, *, limit: int, limits_by_path: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._limit = limit
        self._limits_by_path = limits_by_path or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count the bytes of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits_by_path.get(scope["path"], self._limit)
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not all(length.isdigit() for length in lengths):
            error = HTTPException(400, "Content-Length must be a non-negative integer")
            await http_error_response(error)(scope, receive, send)
            return
        if any(int(length) > limit for length in lengths):
            await http_error_response(_too_large(limit))(scope, receive, send)
            return
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)  # answered by the application's exception handler
            return message

        await self._app(scope, receive_and_count, send)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {limit} bytes, the limit of this server")
