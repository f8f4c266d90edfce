"""Refuses bodies that are too large, before they are in memory: by their announced length, or as they come in."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import http_error_response


class BodyLimitMiddleware:
    """An ASGI middleware; a body of more than `limit` bytes answers 413, chunked or not."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its body's bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not all(length.isdigit() for length in lengths):
            await http_error_response(HTTPException(400, "Content-Length must be a whole number"))(scope, receive, send)
            return
        if any(int(length) > self._limit for length in lengths):
            await http_error_response(self._refusal())(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._refusal()  # the application's own handler answers it
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._limit} bytes")
