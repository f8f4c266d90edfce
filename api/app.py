"""The application: routes, errors and limits put together around the services it is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from ampsweep import __version__
from api import errors
from api.body_limit import BodyLimit
from api.completion_request import CompletionRequest
from api.document import describe
from api.routes import cells, completions, events, health, models, neuron_sets, results, sweeps
from api.services import Services
from jobs.spec import SweepSpec

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request's body, at most."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(services: Services, *, lifespan: Lifespan | None = None, body_limit: int = BODY_LIMIT) -> FastAPI:
    """Make the application. `lifespan` is entered in the server's event loop before the first request is answered."""
    app = FastAPI(
        title="Ampsweep",
        version=__version__,
        summary="Sweeps over the amplification of language-specific neurons.",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    errors.install(app)
    app.add_middleware(BodyLimit, limit=body_limit)
    for noun in (sweeps, cells, events, results, models, neuron_sets, completions):
        app.include_router(noun.router, prefix="/v1")
    app.include_router(health.router)
    describe(app, SweepSpec, CompletionRequest)
    return app
