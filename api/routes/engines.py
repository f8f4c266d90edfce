"""The engines of this server: their state, and retrying those that have failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from ampsweep.errors import NotFound, quoted
from api.auth.api_keys import KeyScope
from api.auth.principal import CurrentPrincipal
from api.http.pagination import list_object
from api.services import Services, ServicesDep

router = APIRouter(prefix="/engines", tags=["engines"])


@router.get("")
async def list_engines(services: ServicesDep) -> dict[str, Any]:
    """List the engines of this server with their state, by model and index."""
    return _engines(services)


@router.post("/{model:path}/retry", status_code=202)
async def retry_engines(services: ServicesDep, principal: CurrentPrincipal, model: str) -> dict[str, Any]:
    """Restart now the engines of a model that have failed or are waiting for their next start.

    Needs the scope `admin`. The response is sent at once and lists the model's engines: a restarted engine is
    `starting` until it is `ready`, or `failed` again.
    """
    principal.need(KeyScope.ADMIN)
    if all(engine["model"] != model for engine in services.engine_monitor.engines()):
        raise NotFound(
            f"this server has no engine for model {quoted(model)}; GET /v1/engines lists them", param="model"
        )
    services.engine_monitor.retry(model)
    return _engines(services, model)


def _engines(services: Services, model: str | None = None) -> dict[str, Any]:
    engines = services.engine_monitor.engines()
    return list_object([_engine_object(engine) for engine in engines if model in (None, engine["model"])])


def _engine_object(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"{engine['model']}:{engine['index']}", "object": "engine", **engine}
