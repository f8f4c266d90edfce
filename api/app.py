"""The application: routes, errors and limits put together around the services it is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from ampsweep.version import __version__
from api import errors
from api.body_limit import BodyLimit
from api.chat_request import ChatRequest
from api.completion_request import CompletionRequest
from api.document import describe
from api.door import Door, DoorKeeper
from api.idempotency import Unanswered
from api.known_query import known_query
from api.log_ids import log_ids
from api.meters.http import HttpMeters
from api.neuron_set_request import DefaultNeuronSetRequest, NeuronSetRequest
from api.observed import Observed
from api.request_ids import RequestIds
from api.routes import (
    cells,
    completions,
    default_neuron_set,
    engines,
    events,
    health,
    metrics,
    models,
    neuron_sets,
    page,
    results,
    sweeps,
)
from api.services import Services
from api.streams import Streams
from jobs.spec import SweepSpec

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(services: Services, door: Door, *, lifespan: Lifespan | None = None) -> FastAPI:
    """Make the application; `door` says who gets in.

    `lifespan` is entered in the server's event loop before the first request is answered.
    """
    app = _routes(lifespan)
    app.state.services = services
    app.state.unanswered = Unanswered()
    app.state.streams = Streams(services.limits.streams)
    app.state.registry = CollectorRegistry()
    ProcessCollector(registry=app.state.registry)
    errors.install(app)
    app.add_middleware(BodyLimit, limit=services.limits.body_bytes)
    app.add_middleware(DoorKeeper, door=door)
    app.add_middleware(Observed, meters=HttpMeters(app.state.registry))
    app.add_middleware(RequestIds)  # added last, so it is the outermost
    return app


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same on every server of this version."""
    return _routes(None).openapi()


def _routes(lifespan: Lifespan | None) -> FastAPI:
    app = FastAPI(
        title="Ampsweep",
        version=__version__,
        summary="Sweeps over the amplification of language-specific neurons.",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        dependencies=[log_ids, known_query],
    )
    for noun in (sweeps, cells, events, results, default_neuron_set, models, engines, neuron_sets, completions):
        app.include_router(noun.router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(page.router)
    describe(app, SweepSpec, NeuronSetRequest, DefaultNeuronSetRequest, CompletionRequest, ChatRequest)
    return app
