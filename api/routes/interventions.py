"""Presets: interventions by name, which clients choose by the name of a model (`MODEL+PRESET`)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import APIRouter
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import InvalidRequest, NotFound, UnknownName
from api.http.json_body import JsonBody
from api.http.pagination import list_object
from api.openai.vllm_xargs import STEERING_FIELD
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.execution import CaptureCall, CompletionCall
from jobs.planning.catalog import Catalog
from jobs.presets import NAME_PATTERN, Preset, Presets

Call = TypeVar("Call", CompletionCall, CaptureCall)

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


class PresetSource(Protocol):
    """What `with_presets` looks names up in; `Services` and `OpenAIRows` have these attributes."""

    @property
    def catalog(self) -> Catalog:
        """The models."""
        ...

    @property
    def presets(self) -> Presets:
        """The named interventions."""
        ...


def _intervention(_call: int) -> str:
    return "intervention"


async def with_presets(
    services: PresetSource, calls: Sequence[Call], param_of: Callable[[int], str] = _intervention
) -> list[Call]:
    """Return the calls of one request with the model and the intervention that the name of their model means.

    The neuron set that the request names steers, else that of the preset. An unsteered completion has none.

    Args:
        services: Where names are looked up.
        calls: The calls.
        param_of: Returns the field that has the intervention of the i-th call.

    Raises:
        UnknownName: There is no such preset for the model (param "model", or the field with the name of the preset).
        InvalidRequest: The request has an intervention besides its preset (param: the field that has it), or names a
            neuron set although nothing uses it (param "neurons").
    """
    calls = await _resolved(services, calls, param_of)
    used = [call.intervention is not None or _selects_languages(call) for call in calls]
    if not any(used) and any(call.neurons is not None for call in calls):
        other = "" if isinstance(calls[0], CompletionCall) else "select.languages or "
        message = f"neurons: has no effect without {other}an intervention; add one, or leave neurons out"
        raise InvalidRequest(message, param="neurons")
    return [call if is_used else replace(call, neurons=None) for call, is_used in zip(calls, used, strict=True)]


def _selects_languages(call: CompletionCall | CaptureCall) -> bool:
    return isinstance(call, CaptureCall) and call.needs_neuron_set


async def _resolved(services: PresetSource, calls: Sequence[Call], param_of: Callable[[int], str]) -> list[Call]:
    """Return the calls with the model and the intervention that the name of their model means."""
    name, param = calls[0].model, "model"
    named = calls[0].preset if isinstance(calls[0], CompletionCall) else None
    if named is not None:
        await asyncio.to_thread(_require_unsteered, services, name)
        name, param = f"{name}+{named}", STEERING_FIELD
    elif name in services.catalog.models:
        return list(calls)
    preset, model = await asyncio.to_thread(_chosen, services, name, param)
    if preset is None:
        return list(calls)  # an unknown model
    for index, call in enumerate(calls):
        if call.intervention is not None:
            raise _steered_twice(name, preset, model, param=param_of(index))
    return [
        replace(call, model=model, intervention=preset.intervention, neurons=call.neurons or preset.neurons)
        for call in calls
    ]


def _require_unsteered(services: PresetSource, name: str) -> None:
    """Raise InvalidRequest if a name chooses a preset besides a model, in a request that names a preset elsewhere."""
    if name not in services.catalog.models:
        preset, model = _chosen(services, name)
        if preset is not None:
            raise _steered_twice(name, preset, model, param=STEERING_FIELD)


def _steered_twice(name: str, preset: Preset, model: str, *, param: str) -> InvalidRequest:
    """Return the error about an intervention, in the field `param`, besides that of the name of a model."""
    remedy = f"leave {param.split('.')[0]} out, or name {model!r}"
    return InvalidRequest(f"{name!r} is steered by the intervention {preset.name!r}; {remedy}", param=param)


async def model_of(services: PresetSource, name: str) -> str:
    """Return the model that a name such as `NAME` or `NAME+PRESET` stands for; raise the errors of `with_presets`."""
    if name in services.catalog.models:
        return name
    _, model = await asyncio.to_thread(_chosen, services, name)
    return model


def _chosen(services: PresetSource, name: str, param: str = "model") -> tuple[Preset | None, str]:
    """Return the preset that the name of a model chooses, and the model that it steers; None for an unknown name.

    Errors are about the field `param`.
    """
    model, plus, preset_name = name.rpartition("+")
    try:
        preset = services.presets.get(preset_name)
    except NotFound:
        if plus and model in services.catalog.models:
            known = [preset.name for preset in services.presets.all()]
            raise UnknownName("preset", preset_name, known, param=param) from None
        return None, name
    if plus:
        if preset.model not in (None, model):
            message = f"the preset {preset.name!r} steers {preset.model!r} only, not {model!r}; name another preset"
            raise InvalidRequest(message, param=param)
        return preset, model
    return (None, name) if preset.model is None else (preset, preset.model)


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
