"""The models that the server is configured with, in the schema of OpenAI's API."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter

from ampsweep.errors import NotFound, quoted
from ampsweep.folders.model import supports_chat
from api.http.pagination import list_object
from api.openai.route import OpenAIRoute
from api.services import ServicesDep
from jobs.presets import Preset

router = APIRouter(prefix="/models", tags=["models"], route_class=OpenAIRoute)


@router.get("")
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """List the models that sweeps and completions can use, and their names with each named intervention."""
    return list_object(await asyncio.to_thread(_objects, services))


@router.get("/{model:path}")
async def get_model(services: ServicesDep, model: str) -> dict[str, Any]:
    """Return one model."""
    return await asyncio.to_thread(_object, services, model)


def no_model(name: str) -> NotFound:
    """Return the error about a path with the name of a model that the server does not have."""
    return NotFound(f"this server has no model {quoted(name)}; GET /v1/models lists its models", param="model")


def _objects(services: ServicesDep) -> list[dict[str, Any]]:
    """Return the models, and after them those with a named intervention."""
    models = sorted(services.catalog.models)
    presets = services.presets.all()
    steered = [_steered_object(services, preset, name) for preset in presets for name in preset.names(models)]
    return [*(_model_object(services, name) for name in models), *steered]


def _object(services: ServicesDep, name: str) -> dict[str, Any]:
    models = services.catalog.models
    if name in models:
        return _model_object(services, name)
    with suppress(NotFound):
        preset = services.presets.get(name.rpartition("+")[2])
        if name in preset.names(models):
            return _steered_object(services, preset, name)
    raise no_model(name)


def _model_object(services: ServicesDep, name: str) -> dict[str, Any]:
    catalog = services.catalog
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "ampsweep",
        "warnings": list(catalog.warnings),
        "adapters": sorted(catalog.adapters.get(name, ())),
        "supports_chat": supports_chat(catalog.models[name]),
    }


def _steered_object(services: ServicesDep, preset: Preset, name: str) -> dict[str, Any]:
    """Return a model with a named intervention; completions alone can use it."""
    base = name.rpartition("+")[0]
    return {**_model_object(services, base), "id": name, "parent": base, "intervention": preset.intervention.to_dict()}
