"""How requests are answered: how many, how fast, how many at once, and why some were refused.

Labels are the templates of routes and known methods, never what a client wrote: their number is that of the routes.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""The route of a request that no route took: an unknown path, or one that was not authenticated."""


class HttpMetrics:
    """Counters and histograms in a registry, kept by `api.middleware.access_log`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "ampsweep_http_requests",
            "Requests that were answered, by status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._begun = Histogram(
            "ampsweep_http_response_start_seconds",
            "Time until an answer begins; of a stream, until its first piece.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._ended = Histogram(
            "ampsweep_http_request_duration_seconds",
            "Time until an answer is sent; streams of events are left out.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "ampsweep_http_refused",
            "Requests that were answered with an error, by its code.",
            ["code"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "ampsweep_http_requests_in_flight", "Requests that are being answered.", registry=registry
        )

    def answered(
        self,
        *,
        method: str,
        route: str,
        status: int,
        code: str | None,
        start_seconds: float,
        seconds: float | None,
    ) -> None:
        """Count an answer; `code` is that of an error, `seconds` None for a stream of events."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._begun.labels(method, route).observe(start_seconds)
        if seconds is not None:
            self._ended.labels(method, route).observe(seconds)
        if code is not None:
            self._refused.labels(code).inc()
