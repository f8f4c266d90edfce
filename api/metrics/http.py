"""Metrics of HTTP requests: counts, latencies, requests in flight, errors by code.

Labels are route templates and known methods, never text of a client, so that the number of time series is bounded.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""The route label of a request that reached no route: its path is unknown, or authentication rejected it."""


class HttpMetrics:
    """The counters and histograms of HTTP requests, updated by `api.middleware.access_log`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "ampsweep_http_requests",
            "Answered requests, by status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._start_seconds = Histogram(
            "ampsweep_http_response_start_seconds",
            "Time until the response starts; for a stream, until its first event.",
            ["method", "route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._duration_seconds = Histogram(
            "ampsweep_http_request_duration_seconds",
            "Time until the response is sent, without event streams.",
            ["method", "route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._errors = Counter(
            "ampsweep_http_refused",
            "Requests that were answered with an error, by error code.",
            ["code"],
            registry=registry,
        )
        self.in_flight = Gauge("ampsweep_http_requests_in_flight", "Requests in progress.", registry=registry)

    def record(
        self,
        *,
        method: str,
        route: str,
        status: int,
        code: str | None,
        start_seconds: float,
        seconds: float | None,
    ) -> None:
        """Record an answered request.

        Args:
            method: The HTTP method; unknown methods are recorded as "other".
            route: The template of the route, or NO_ROUTE.
            status: The status of the response.
            code: The code of the error that it was answered with, if any.
            start_seconds: Time until the response started.
            seconds: Time until the response was sent; None for an event stream.
        """
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._start_seconds.labels(method, route).observe(start_seconds)
        if seconds is not None:
            self._duration_seconds.labels(method, route).observe(seconds)
        if code is not None:
            self._errors.labels(code).inc()
