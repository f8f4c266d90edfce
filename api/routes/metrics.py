"""The server in numbers, in Prometheus' text format."""

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

from ampsweep.errors import Unavailable
from ampsweep.version import __version__
from api.meters.engines import engine_families
from api.meters.families import gauge
from api.meters.queue import queue_families, tally_families
from api.services import Served
from api.streams import Streams

router = APIRouter(tags=["health"])

STORE_SECONDS = 5.0
"""How long the database may take to count; Prometheus itself waits ten."""

CONTENT_TYPE = "text/plain; version=0.0.4"


@dataclass(frozen=True, kw_only=True)
class _Page(Collector):
    """All that one look at the server shows."""

    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, served: Served) -> PlainTextResponse:
    """Say how queue, engines and HTTP fare, for Prometheus; a key with the scope `read` opens it."""
    engines = await served.muscle.figures()
    census, now = None, served.clock.now()
    with suppress(Unavailable, TimeoutError):  # it is said below, and the rest is needed all the more
        async with asyncio.timeout(STORE_SECONDS):
            census = await asyncio.to_thread(served.store.census)

    def families() -> Iterator[Metric]:
        yield gauge("ampsweep_build_info", "1; the version is its label.", {(__version__,): 1.0}, ("version",))
        yield gauge("ampsweep_store_up", "Whether the database answers.", float(census is not None))
        if census is not None:
            yield from queue_families(census, now=now)
        yield from tally_families(served.tally)
        yield from engine_families(engines)
        streams = cast("Streams", request.app.state.streams)
        yield gauge("ampsweep_http_streams", "Completions and event streams under way.", streams.total())
        yield from cast("CollectorRegistry", request.app.state.registry).collect()

    text = await asyncio.to_thread(generate_latest, _Page(families=families()))
    return PlainTextResponse(text, media_type=CONTENT_TYPE)
