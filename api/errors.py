"""Every error as one shape: `{"error": {"message", "type", "param", "code"}}`, with the status of its class.

What the caller sent is never repeated as it came: text that is no valid UTF-8 is replaced, so an error can always be
written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ampsweep.errors import AmpsweepError, InvalidRequest, Unavailable

log = logging.getLogger(__name__)

_LONGEST = 2000
_STATE = "error_code"
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}


def install(app: FastAPI) -> None:
    """Make an application answer all its errors in the one shape."""
    app.add_exception_handler(AmpsweepError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def error_body(error: AmpsweepError) -> dict[str, object]:
    """Return the body of an error of ours."""
    return _body(error.message, kind=error.type, param=error.param, code=error.code)


class ErrorResponse(JSONResponse):
    """An error's answer, which leaves its code in the request's scope for those who count."""

    def __init__(self, body: dict[str, object], status: int, *, code: str, headers: Mapping[str, str]) -> None:
        super().__init__(body, status, headers=headers)
        self._error_code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        scope.setdefault("state", {})[_STATE] = self._error_code
        await super().__call__(scope, receive, send)


def error_code(scope: Scope) -> str | None:
    """Return the code of the error that a request was answered with; None where it was none."""
    return cast("str | None", scope.get("state", {}).get(_STATE))


def ours(error: AmpsweepError, *, status: int | None = None) -> JSONResponse:
    """Return the response to an error of ours, with its own status or another."""
    if isinstance(error, Unavailable):  # expected, while an engine starts say: there is no bug to trace
        log.warning("%s: %s", error.code, error.message)
    elif error.status >= 500:
        log.error("%s: %s", error.code, error.message, exc_info=error)
    return ErrorResponse(error_body(error), status or error.status, code=error.code, headers=_headers(error))


def _headers(error: AmpsweepError) -> dict[str, str]:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return {**headers, "WWW-Authenticate": "Bearer"} if error.status == 401 else headers


def http_error_response(error: HTTPException) -> JSONResponse:
    """Return the response to an error of the HTTP layer itself."""
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    code = _CODES.get(error.status_code, "http_error")
    body = _body(str(error.detail), kind=kind, param=None, code=code)
    return ErrorResponse(body, error.status_code, code=code, headers=dict(error.headers or {}))


def _body(message: str, *, kind: str, param: str | None, code: str) -> dict[str, object]:
    return {"error": {"message": _plain(message), "type": kind, "param": param and _plain(param), "code": code}}


def _plain(text: str) -> str:
    """Return text that can be written, and no longer than one reads: what it repeats may be megabytes."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return shown.encode("utf-8", "replace").decode()


async def _on_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AmpsweepError)
    return ours(error)


async def _on_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return ours(invalid(error))


def invalid(error: RequestValidationError) -> InvalidRequest:
    """Return an error of ours for a path, query or header value of a wrong kind."""
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return InvalidRequest(f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}", param=name)


async def _on_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return http_error_response(error)
