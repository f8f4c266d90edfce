"""The models of the server's list, in the shape of OpenAI's."""

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
    """List the models that sweeps and completions may name."""
    return list_object([_model_object(name) for name in sorted(services.catalog.models)])


@router.get("/{model:path}")
async def get_model(services: ServicesDep, model: str) -> dict[str, Any]:
    """Return one model of the list."""
    if model not in services.catalog.models:
        raise NotFound(f"no model {model!r}", param="model")
    return _model_object(model)


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ampsweep"}
