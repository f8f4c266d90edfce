"""The models that the server is configured with, in the schema of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ampsweep.errors import NotFound
from api.http.pagination import list_object
from api.openai.route import OpenAIRoute
from api.services import ServicesDep

router = APIRouter(prefix="/models", tags=["models"], route_class=OpenAIRoute)


@router.get("")
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """List the models that sweeps and completions can use."""
    return list_object([_model_object(services, name) for name in sorted(services.catalog.models)])


@router.get("/{model:path}")
async def get_model(services: ServicesDep, model: str) -> dict[str, Any]:
    """Return one model."""
    if model not in services.catalog.models:
        raise NotFound(f"this server has no model {model!r}; GET /v1/models lists its models", param="model")
    return _model_object(services, model)


def _model_object(services: ServicesDep, name: str) -> dict[str, Any]:
    catalog = services.catalog
    model = {"id": name, "object": "model", "created": 0, "owned_by": "ampsweep"}
    return {**model, "warnings": list(catalog.warnings), "adapters": sorted(catalog.adapters.get(name, ()))}
