"""Observes every request: a log line, Prometheus metrics, and a span if tracing is on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ampsweep.telemetry.traces import span
from api.auth.principal import principal_of
from api.errors import error_code
from api.metrics.http import NO_ROUTE, HttpMetrics

log = logging.getLogger(__name__)

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that machines ask every few seconds: their lines are for debugging."""

_GONE = 499
"""The status of a request whose client left before there was an answer."""


@dataclass(kw_only=True)
class _Answer:
    """What has been seen so far; `started` is when the answer began."""

    began: float
    started: float | None = None
    status: int = _GONE
    endless: bool = False


class AccessLogMiddleware:
    """ASGI middleware around authentication, so that it sees rejected requests too. `now` counts seconds."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, now: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._meters = metrics
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Answer(began=self._now())

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                seen.started, seen.status = self._now(), message["status"]
                seen.endless = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        method, headers = scope["method"], {"traceparent": Headers(scope=scope).get("traceparent", "")}
        with (
            self._meters.in_flight.track_inprogress(),
            span("HTTP request", {"http.request.method": method}, parent=headers, server=True) as note,
        ):
            try:
                await self._app(scope, receive, watched)
            except Exception:
                seen.status = seen.status if seen.started is not None else 500  # as `RequestIdMiddleware` answers it
                raise
            finally:
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                note({"http.route": route, "http.response.status_code": seen.status})
                self._count(scope, seen, method=method, route=route)

    def _count(self, scope: Scope, seen: _Answer, *, method: str, route: str) -> None:
        now, code, principal = self._now(), error_code(scope), principal_of(scope)
        self._meters.answered(
            method=method,
            route=route,
            status=seen.status,
            code=code,
            start_seconds=(now if seen.started is None else seen.started) - seen.began,
            seconds=None if seen.endless else now - seen.began,
        )
        said = {"method": method, "route": route, "status": seen.status, "seconds": round(now - seen.began, 4)}
        said |= {name: value for name, value in (("code", code), ("caller", principal and principal.id)) if value}
        log.log(logging.DEBUG if route in _QUIET else logging.INFO, "request", extra=said)
