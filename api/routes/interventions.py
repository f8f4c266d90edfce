"""Presets: interventions by name, which clients choose by the name of a model (`MODEL+PRESET`)."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import InvalidRequest
from api.http.json_body import JsonBody
from api.http.pagination import list_object
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.presets import NAME_PATTERN, Preset

_EXAMPLE: dict[str, Any] = {"name": "fr", "intervention": {"languages": ["fr"], "op": "scale", "factor": 3}}

router = APIRouter(prefix="/interventions", tags=["interventions"])


def _checked_name(value: object) -> object:
    """Raise an error in words for a text that is no name of a preset."""
    if isinstance(value, str) and not re.fullmatch(NAME_PATTERN, value):
        message = "must be 1 to 64 letters from A to Z, digits, '.', '-' and '_', the first one a letter or a digit"
        raise PydanticCustomError("preset_name", message)
    return value


class PresetRequest(StrictModel):
    """An intervention that gets a name.

    `neurons` is the id of its neuron set, by default the default of the model that is steered. With `model` it steers
    this model only, and its name alone chooses both.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN), BeforeValidator(_checked_name)]
    intervention: Intervention
    neurons: Name | None = None
    model: Name | None = None


def parse_preset(raw: object) -> Preset:
    """Parse the body; raise InvalidRequest whose `param` is the first invalid field."""
    body = validate(PresetRequest, raw)
    return Preset(name=body.name, intervention=body.intervention, neurons=body.neurons, model=body.model)


@router.post("", status_code=201, openapi_extra=request_body(PresetRequest, _EXAMPLE))
async def create_intervention(services: ServicesDep, body: JsonBody) -> dict[str, Any]:
    """Name an intervention. Repeating the request changes nothing; another intervention of this name is a conflict."""
    preset = await asyncio.to_thread(parse_preset, body)
    await asyncio.to_thread(_create, services, preset)
    return _preset_object(preset)


@router.get("")
async def list_interventions(services: ServicesDep) -> dict[str, Any]:
    """List the named interventions, by name."""
    presets = await asyncio.to_thread(services.presets.all)
    return list_object([_preset_object(preset) for preset in presets])


@router.get("/{name}")
async def get_intervention(services: ServicesDep, name: str) -> dict[str, Any]:
    """Return a named intervention."""
    return _preset_object(await asyncio.to_thread(services.presets.get, name))


@router.delete("/{name}", status_code=204, response_class=Response)
async def delete_intervention(services: ServicesDep, name: str) -> Response:
    """Delete a named intervention. Completions in progress go on."""
    await asyncio.to_thread(services.presets.delete, name)
    return Response(status_code=204)


def _create(services: Services, preset: Preset) -> None:
    if preset.name in services.catalog.models:
        raise InvalidRequest(f"{preset.name!r} is the name of a model; choose another", param="name")
    if preset.model is not None:
        services.catalog.model_path(preset.model)
    if preset.neurons is not None:
        services.neuron_sets.get(preset.neurons)
    services.presets.create(preset)


def _preset_object(preset: Preset) -> dict[str, Any]:
    return {"id": preset.name, "object": "intervention", **preset.to_dict()}
