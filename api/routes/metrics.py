"""The metrics of the server in the text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse

from ampsweep.errors import DamagedFile, Unavailable
from ampsweep.version import __version__
from api.auth.stream_limit import StreamLimiter
from api.metrics.collectors import gauge
from api.metrics.engines import engine_metrics
from api.metrics.queue import dispatcher_metrics, queue_metrics
from api.services import ServicesDep

router = APIRouter(tags=["health"])

STORE_SECONDS = 5.0
"""Timeout of the queries to the database; Prometheus itself waits ten seconds for a scrape."""

CONTENT_TYPE = "text/plain; version=0.0.4"


@dataclass(frozen=True, kw_only=True)
class _Scrape(Collector):
    """The metrics of one scrape."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, services: ServicesDep) -> PlainTextResponse:
    """Return the metrics of the queue, the engines and HTTP in the text format of Prometheus.

    Needs the scope `read`, unless the server is started with `--open-metrics`.
    """
    engines = await services.engine_monitor.metrics()
    stats, now = None, services.clock.now()
    with suppress(Unavailable, DamagedFile, TimeoutError):  # reported as ampsweep_store_up 0, beside all other metrics
        async with asyncio.timeout(STORE_SECONDS):
            stats = await asyncio.to_thread(services.store.stats)

    def all_metrics() -> Iterator[Metric]:
        yield gauge("ampsweep_build_info", "1, labelled by the version.", {(__version__,): 1.0}, ("version",))
        yield gauge("ampsweep_store_up", "1 if the database answers, else 0.", float(stats is not None))
        if stats is not None:
            yield from queue_metrics(stats, now=now)
        yield from dispatcher_metrics(services.dispatcher_stats)
        yield from engine_metrics(engines)
        stream_limiter = cast("StreamLimiter", request.app.state.stream_limiter)
        yield gauge("ampsweep_http_streams", "Completions and event streams in progress.", stream_limiter.total())
        yield from cast("CollectorRegistry", request.app.state.registry).collect()

    text = await asyncio.to_thread(generate_latest, _Scrape(metrics=all_metrics()))
    return PlainTextResponse(text, media_type=CONTENT_TYPE)
