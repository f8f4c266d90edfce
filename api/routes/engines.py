"""The engines of this server: their states, and the retry of those that have failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from ampsweep.errors import NotFound
from api.auth.api_keys import KeyScope
from api.auth.principal import CurrentPrincipal
from api.http.pagination import list_object
from api.services import Services, ServicesDep

router = APIRouter(prefix="/engines", tags=["engines"])


@router.get("")
async def list_engines(services: ServicesDep) -> dict[str, Any]:
    """List the engines of this server, those of a model by their index."""
    return _engines(services)


@router.post("/{model:path}/retry", status_code=202)
async def retry_engines(services: ServicesDep, principal: CurrentPrincipal, model: str) -> dict[str, Any]:
    """Start the model's engines that have failed, or wait for their next start, now; needs the scope `admin`.

    Answers at once with the model's engines: one that is retried is `starting` until it is `ready`, or `failed` again.
    """
    principal.need(KeyScope.ADMIN)
    if all(engine["model"] != model for engine in services.engine_monitor.engines()):
        raise NotFound(f"no engine of model {model!r}", param="model")
    services.engine_monitor.retry(model)
    return _engines(services, model)


def _engines(services: Services, model: str | None = None) -> dict[str, Any]:
    return list_object(
        [_engine_object(one) for one in services.engine_monitor.engines() if model in (None, one["model"])]
    )


def _engine_object(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"{engine['model']}:{engine['index']}", "object": "engine", **engine}
