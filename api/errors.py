"""Error responses. All have the body `{"error": {"message", "type", "param", "code"}}` and the status of their class.

A message may quote what the client sent. Characters that UTF-8 cannot encode are replaced and long text is shortened,
so that an error can always be sent.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ampsweep.errors import AmpsweepError, InvalidRequest, Unavailable, shortened
from ampsweep.files import is_full
from ampsweep.out_of_threads import is_out_of_threads, thread_failure

log = logging.getLogger(__name__)

CLIENT_GONE = 499
"""The status for the access log when the client has disconnected; no client receives it."""
_MAX_PATH = 200
"""Characters of a path that an error repeats."""
_STATE = "error_code"
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    416: "range_not_satisfiable",
}
_UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
_TOO_MANY_OPEN = frozenset({errno.EMFILE, errno.ENFILE})


def install(app: FastAPI) -> None:
    """Install the exception handlers that answer every error of an application in this format."""
    app.add_exception_handler(AmpsweepError, _handle_ampsweep_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
    app.add_exception_handler(OSError, _handle_exhaustion)
    app.add_exception_handler(RuntimeError, _handle_exhaustion)  # of a thread that cannot be started


def error_body(error: AmpsweepError) -> dict[str, object]:
    """Return the body of an error."""
    return _body(error.message, kind=error.type, param=error.param, code=error.code)


class ErrorResponse(JSONResponse):
    """The response of an error. It stores the error's code in the ASGI scope, for the access log and the metrics."""

    def __init__(self, body: dict[str, object], status: int, *, code: str, headers: Mapping[str, str]) -> None:
        super().__init__(body, status, headers=headers)
        self._error_code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        scope.setdefault("state", {})[_STATE] = self._error_code
        await super().__call__(scope, receive, send)


def error_code(scope: Scope) -> str | None:
    """Return the code of the error that a request was answered with; None if it was not an error."""
    return cast("str | None", scope.get("state", {}).get(_STATE))


def error_response(error: AmpsweepError, *, status: int | None = None) -> JSONResponse:
    """Return the response of an error and log it if it is the server's; `status` replaces the status of its class."""
    if isinstance(error, Unavailable):  # expected, for example while an engine starts: no traceback is needed
        log.warning("%s: %s", error.code, error.message)
    elif error.status >= 500:
        log.error("%s: %s", error.code, error.message, exc_info=error)
    return ErrorResponse(error_body(error), status or error.status, code=error.code, headers=_headers(error))


def _headers(error: AmpsweepError) -> dict[str, str]:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return {**headers, "WWW-Authenticate": "Bearer"} if error.status == 401 else headers


def http_error_response(error: HTTPException) -> JSONResponse:
    """Return the response of an error of the HTTP layer, such as an unknown path."""
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    code = _CODES.get(error.status_code, "http_error")
    body = _body(str(error.detail), kind=kind, param=None, code=code)
    return ErrorResponse(body, error.status_code, code=code, headers=dict(error.headers or {}))


def _body(message: str, *, kind: str, param: str | None, code: str) -> dict[str, object]:
    return {"error": {"message": _printable(message), "type": kind, "param": param and _printable(param), "code": code}}


def _printable(text: str) -> str:
    """Return text that can be encoded, shortened if it is long."""
    return shortened(text).encode("utf-8", "replace").decode()


async def _handle_ampsweep_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AmpsweepError)
    return error_response(error)


async def _handle_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(as_invalid_request(error))


def as_invalid_request(error: RequestValidationError) -> InvalidRequest:
    """Return FastAPI's error about a path, query or header value as an InvalidRequest."""
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return InvalidRequest(f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}", param=name)


async def _handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = shortened(request.url.path, _MAX_PATH)
    if error.status_code == 404:  # of the router; routes raise NotFound
        error.detail = f"this server has no path {path}; GET /v1/openapi.json lists its paths"
    elif error.status_code == 405:
        error.detail = f"{path} does not take {request.method}, only {(error.headers or {}).get('Allow')}"
    return http_error_response(error)


async def _handle_disconnect(_request: Request, _error: Exception) -> Response:
    """Return the response to a client that disconnected before its whole body was received; nobody gets it."""
    return Response(status_code=CLIENT_GONE)


async def _handle_exhaustion(_request: Request, error: Exception) -> JSONResponse:
    """Answer 503 if the server's machine lacks disk, files or threads; any other error is a bug and raised again."""
    if is_out_of_threads(error):
        reason = thread_failure(error, "on the server")
    elif not isinstance(error, OSError):
        raise error
    elif is_full(error):
        reason = "a disk of the server is full; retry when its operator has freed some space"
    elif error.errno in _UNWRITABLE:
        reason = f"the server cannot write to one of its folders ({error.strerror}); its operator must repair that"
    elif error.errno in _TOO_MANY_OPEN:
        reason = f"the server cannot open another file now ({error.strerror}); retry later"
    else:
        raise error
    log.warning("%s: %s", reason, getattr(error, "filename", None) or "no file")
    return error_response(Unavailable(reason))
