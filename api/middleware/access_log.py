"""Records every request: a log line, Prometheus metrics and, if tracing is on, a span."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ampsweep.telemetry.traces import span
from api.auth.principal import principal_of
from api.errors import CLIENT_GONE, error_code
from api.metrics.http import NO_ROUTE, HttpMetrics

log = logging.getLogger(__name__)

_DEBUG_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that monitoring polls every few seconds; their requests are logged at level debug."""


@dataclass(kw_only=True)
class _RequestState:
    """What is known of a request and its response so far; `started` is when the response began."""

    began: float
    started: float | None = None
    status: int = CLIENT_GONE
    is_event_stream: bool = False


class AccessLogMiddleware:
    """ASGI middleware. It encloses authentication, so that it records rejected requests too.

    Args:
        app: The next ASGI application.
        metrics: Counts the requests.
        now: A monotonic clock, in seconds.
    """

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, now: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and record its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = _RequestState(began=self._now())

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                state.started, state.status = self._now(), message["status"]
                state.is_event_stream = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        method, headers = scope["method"], {"traceparent": Headers(scope=scope).get("traceparent", "")}
        with (
            self._metrics.in_flight.track_inprogress(),
            span("HTTP request", {"http.request.method": method}, parent=headers, server=True) as add_attributes,
        ):
            try:
                await self._app(scope, receive, send_and_record)
            except Exception:
                if state.started is None:
                    state.status = 500  # the status of the response that `RequestIdMiddleware` sends
                raise
            finally:
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                add_attributes({"http.route": route, "http.response.status_code": state.status})
                self._record(scope, state, method=method, route=route)

    def _record(self, scope: Scope, state: _RequestState, *, method: str, route: str) -> None:
        now, code, principal = self._now(), error_code(scope), principal_of(scope)
        seconds = now - state.began
        self._metrics.record(
            method=method,
            route=route,
            status=state.status,
            code=code,
            start_seconds=seconds if state.started is None else state.started - state.began,
            seconds=None if state.is_event_stream else seconds,
        )
        fields = {"method": method, "route": route, "status": state.status, "seconds": round(seconds, 4)}
        fields |= {name: value for name, value in (("code", code), ("caller", principal and principal.id)) if value}
        log.log(logging.DEBUG if route in _DEBUG_ROUTES else logging.INFO, "request", extra=fields)
