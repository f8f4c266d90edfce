"""Rejects bodies that are too large before they are in memory: by `Content-Length`, or while they are received."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import http_error_response


class BodyLimitMiddleware:
    """ASGI middleware that answers 413 to a body of more than `limit` bytes, chunked or not."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count the bytes of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not all(length.isdigit() for length in lengths):
            error = HTTPException(400, "Content-Length must be a non-negative integer")
            await http_error_response(error)(scope, receive, send)
            return
        if any(int(length) > self._limit for length in lengths):
            await http_error_response(self._too_large())(scope, receive, send)
            return
        received = 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large()  # answered by the application's exception handler
            return message

        await self._app(scope, receive_and_count, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._limit} bytes, the limit of this server")
