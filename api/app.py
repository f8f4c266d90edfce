"""Builds the FastAPI application from its services: routes, error handlers, middleware."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from ampsweep.errors import InvalidRequest, quoted, shortened_key
from ampsweep.version import __version__
from api import errors
from api.auth.authentication import AuthMiddleware, AuthPolicy
from api.auth.stream_limit import PrincipalLocks, StreamLimiter
from api.http.idempotency import InFlightKeys
from api.metrics.http import HttpMetrics
from api.middleware.access_log import AccessLogMiddleware
from api.middleware.body_limit import BodyLimitMiddleware
from api.middleware.request_id import RequestIdMiddleware, bind_sweep_of_path
from api.openai.chats.request import ChatRequest
from api.openai.completions.request import CompletionRequest
from api.openai.responses.request import ResponseRequest
from api.openai.tokenization import DetokenizeRequest, TokenizeRequest
from api.openapi import describe
from api.routes import (
    activations,
    batches,
    cells,
    completions,
    default_neuron_set,
    engines,
    evaluations,
    events,
    files,
    health,
    interventions,
    language_identification,
    metrics,
    models,
    neuron_sets,
    offers,
    plan,
    report,
    responses,
    results,
    samples,
    sweeps,
    tokenization,
    webui,
)
from api.services import Services
from api.store_check import StoreCheck
from jobs.evaluation.request import EvaluationRequest
from jobs.spec.sweep import SweepSpec

_V1 = (
    plan,
    sweeps,
    cells,
    events,
    results,
    samples,
    report,
    evaluations,
    default_neuron_set,
    models,
    offers,
    language_identification,
    engines,
    neuron_sets,
    interventions,
    completions,
    responses,
    activations,
    files,
    batches,
)
"""The modules of the routes below `/v1`, in the order of the OpenAPI document."""


def create_app(services: Services, policy: AuthPolicy) -> FastAPI:
    """Return the application.

    Args:
        services: What the routes work with.
        policy: Authenticates the requests.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.extend(_declared().routes)
    app.openapi = openapi_document  # type: ignore[method-assign]
    app.state.services = services
    app.state.in_flight_keys = InFlightKeys()
    app.state.stream_limiter = StreamLimiter(services.limits.streams)
    app.state.capture_locks = PrincipalLocks()
    app.state.store_check = StoreCheck(services.store)
    app.state.registry = CollectorRegistry()
    ProcessCollector(registry=app.state.registry)
    errors.install(app)
    uploads = {"/v1/files": services.limits.file_bytes}
    app.add_middleware(BodyLimitMiddleware, limit=services.limits.body_bytes, limits_by_path=uploads)
    app.add_middleware(AuthMiddleware, policy=policy)
    app.add_middleware(AccessLogMiddleware, metrics=HttpMetrics(app.state.registry))
    app.add_middleware(RequestIdMiddleware)  # added last, so it is the outermost
    return app


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same for every server of this version."""
    return _declared().openapi()


@cache
def _declared() -> FastAPI:
    """Return all routes and their document. They depend on no services, and FastAPI takes long to build them."""
    app = FastAPI(
        title="Ampsweep",
        version=__version__,
        summary="Sweeps over the amplification of language-specific neurons.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        dependencies=[bind_sweep_of_path, Depends(_reject_unknown_query)],
    )
    for module in _V1:
        app.include_router(module.router, prefix="/v1")
    app.include_router(tokenization.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(webui.router)
    describe(
        app,
        SweepSpec,
        sweeps.SweepChanges,
        EvaluationRequest,
        neuron_sets.NeuronSetRequest,
        default_neuron_set.DefaultNeuronSetRequest,
        interventions.PresetRequest,
        language_identification.IdentifyRequest,
        CompletionRequest,
        ChatRequest,
        ResponseRequest,
        activations.ActivationsRequest,
        activations.ActivityRequest,
        batches.BatchRequest,
        TokenizeRequest,
        DetokenizeRequest,
    )
    app.openapi()  # FastAPI keeps it; made at the first request, it would hold up all others
    return app


async def _reject_unknown_query(request: Request) -> None:
    """Reject query parameters that the route does not declare, as unknown keys of a body are rejected."""
    if not request.query_params:
        return
    paths = request.app.openapi()["paths"]  # computed once and cached by the application
    method = "get" if request.method == "HEAD" else request.method.lower()  # HEAD has the parameters of GET
    operation = paths.get(request.scope["route"].path_format, {}).get(method, {})
    declared = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    for name in request.query_params:
        if name not in declared:
            listed = ", ".join(declared) or "none"
            raise InvalidRequest(f"unknown query parameter {quoted(name)}; known: {listed}", param=shortened_key(name))
