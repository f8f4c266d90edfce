"""The neuron sets that sweeps and completions may name by id: listed, looked at, brought in, identified."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Discriminator, Field, Tag
from starlette.responses import JSONResponse

from ampsweep.domain.neuron_set import NeuronsRef, language_warnings
from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import NotFound
from api.http.json_body import JsonBody, json_response
from api.http.pagination import After, Limit, list_object
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.neuron_sets.registry import NeuronSetInfo
from jobs.planning.neuron_choice import neurons_to_identify
from jobs.spec import NeuronsByMethod

_EXAMPLE: dict[str, Any] = {"model": "atlas", "neurons": {"fr": {"0": [12, 40], "3": [7]}, "tr": {"1": [5]}}}

router = APIRouter(prefix="/neuron-sets", tags=["neuron sets"])


NeuronLists = Annotated[
    dict[Name, dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], list[Annotated[int, Field(ge=0, lt=2**31)]]]],
    Field(min_length=1, max_length=1000),
]
"""{language: {layer: [index, ...]}}; a layer that is not there has no neurons."""


def _kind(raw: Any) -> str:
    by_method = isinstance(raw, NeuronsByMethod) or (isinstance(raw, dict) and isinstance(raw.get("method"), str))
    return "by method" if by_method else "known"


class NeuronSetRequest(StrictModel):
    """A model, and its neurons: as lists, or (as in a sweep's spec) by method, corpus and languages."""

    model: Name
    neurons: Annotated[
        Annotated[NeuronsByMethod, Tag("by method")] | Annotated[NeuronLists, Tag("known")], Discriminator(_kind)
    ]


def parse_neuron_set(raw: object) -> NeuronSetRequest:
    """Read the body; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(NeuronSetRequest, raw)


@router.post("", status_code=201, openapi_extra=request_body(NeuronSetRequest, _EXAMPLE), responses={202: {}})
async def create_neuron_set(services: ServicesDep, body: JsonBody, response: Response) -> dict[str, Any]:
    """Bring a neuron set in (201), or have it identified on the model's engine (202).

    The id says what the set is made of, so the same request gives the same set. One that is being identified is
    `in_progress` until `GET` finds it `completed`, or `failed` with its error; the same request then tries again.
    """
    asked = await asyncio.to_thread(parse_neuron_set, body)
    if isinstance(asked.neurons, NeuronsByMethod):
        ref = await asyncio.to_thread(_to_identify, services, asked.model, asked.neurons)
        if not await asyncio.to_thread(_is_there, services, ref.id):
            await services.neuron_set_service.identify(asked.model, ref)
            response.status_code = 202
            warnings = language_warnings(asked.neurons.method, asked.neurons.languages)
            return {**await _one(services, ref.id), "warnings": warnings}
        found = ref.id
    else:
        found = await asyncio.to_thread(services.neuron_set_service.import_set, asked.model, asked.neurons)
    return await _one(services, found)


@router.get("")
async def list_neuron_sets(
    services: ServicesDep,
    after: After = None,
    limit: Limit = 100,
    model: Annotated[str | None, Query(description="Only those made for this model of the list.")] = None,
) -> dict[str, Any]:
    """List the neuron sets that are there, the oldest first; of a `model` those that can steer it."""
    infos = await asyncio.to_thread(_infos, services, model)
    start = 0
    if after is not None:
        start = next((at for at, info in enumerate(infos, 1) if info.id == after), 0)
        if not start:
            raise NotFound(f"no neuron set {after}", param="after")
    page = list(islice(infos, start, start + limit))
    return list_object([_neuron_set_object(info) for info in page], has_more=len(infos) > start + limit)


@router.get("/{neuron_set_id}", response_model=dict[str, Any])
async def get_neuron_set(
    services: ServicesDep,
    neuron_set_id: str,
    include: Annotated[Literal["neurons"] | None, Query(description="`neurons`: the neurons themselves too.")] = None,
) -> JSONResponse:
    """Return one neuron set: where it came from, and how many neurons each language has, in all and in each layer."""
    found = await _one(services, neuron_set_id)

    def whole() -> dict[str, Any]:
        if found["status"] != "completed":
            return found
        neurons = services.neuron_set_service.neurons(neuron_set_id)
        by_layer = {language: _counts(layers, found["layers"]) for language, layers in neurons.items()}
        return {**found, "by_layer": by_layer, **({"neurons": neurons} if include == "neurons" else {})}

    return await json_response(whole)


def _infos(services: Services, model: str | None) -> list[NeuronSetInfo]:
    if model is None:
        return services.neuron_sets.infos()
    return services.neuron_sets.made_for(services.catalog.model(model).fingerprint)


async def _one(services: Services, neuron_set_id: str) -> dict[str, Any]:
    try:
        return _neuron_set_object(await asyncio.to_thread(services.neuron_sets.get, neuron_set_id))
    except NotFound:
        identification_status = await asyncio.to_thread(
            services.neuron_set_service.identification_status, neuron_set_id
        )
    if identification_status is None:  # unknown, or found between the two looks
        return _neuron_set_object(await asyncio.to_thread(services.neuron_sets.get, neuron_set_id))
    error = identification_status.error
    return {
        "id": neuron_set_id,
        "object": "neuron_set",
        "status": "in_progress" if error is None else "failed",
        "error": None if error is None else error.message,
    }


def _to_identify(services: Services, model: str, neurons: NeuronsByMethod) -> NeuronsRef:
    return neurons_to_identify(neurons, services.catalog.model(model), services.catalog).ref


def _is_there(services: Services, neuron_set_id: str) -> bool:
    try:
        services.neuron_sets.get(neuron_set_id)
    except NotFound:
        return False
    return True


def _counts(layers: Mapping[str, Sequence[int]], count: int) -> list[int]:
    return [len(layers.get(str(layer), ())) for layer in range(count)]


def _neuron_set_object(info: NeuronSetInfo) -> dict[str, Any]:
    warnings = language_warnings(info.method, tuple(info.languages))
    return {"object": "neuron_set", "status": "completed", **asdict(info), "warnings": warnings}
