"""The neuron sets that sweeps and completions can use by id: list, show, import and identify them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Discriminator, Field, Tag
from starlette.responses import JSONResponse

from ampsweep.domain.neurons.neuron_set import NeuronsRef, language_warnings
from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import NotFound
from api.http.json_body import JsonBody, json_response
from api.http.pagination import After, Limit, list_object
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.execution import IdentificationStatus
from jobs.neuron_sets.registry import NeuronSetInfo
from jobs.planning.neuron_choice import neurons_to_identify
from jobs.spec.neurons import NeuronsByMethod

_EXAMPLE: dict[str, Any] = {"model": "atlas", "neurons": {"fr": {"0": [12, 40], "3": [7]}, "tr": {"1": [5]}}}

router = APIRouter(prefix="/neuron-sets", tags=["neuron sets"])


NeuronLists = Annotated[
    dict[Name, dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], list[Annotated[int, Field(ge=0, lt=2**31)]]]],
    Field(min_length=1, max_length=1000),
]
"""{language: {layer: [index, ...]}}; a layer that is left out has no neurons."""


def _request_kind(raw: Any) -> str:
    by_method = isinstance(raw, NeuronsByMethod) or (isinstance(raw, dict) and isinstance(raw.get("method"), str))
    return "by method" if by_method else "known"


class NeuronSetRequest(StrictModel):
    """A neuron set to import or to identify.

    `neurons` has either the neurons themselves, as {language: {layer: [index, ...]}}, or how to identify them: method,
    corpus and languages, as in the spec of a sweep.
    """

    model: Name
    neurons: Annotated[
        Annotated[NeuronsByMethod, Tag("by method")] | Annotated[NeuronLists, Tag("known")],
        Discriminator(_request_kind),
    ]


def parse_neuron_set(raw: object) -> NeuronSetRequest:
    """Parse the body; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(NeuronSetRequest, raw)


@router.post("", status_code=201, openapi_extra=request_body(NeuronSetRequest, _EXAMPLE), responses={202: {}})
async def create_neuron_set(services: ServicesDep, body: JsonBody, response: Response) -> dict[str, Any]:
    """Import a neuron set (201), or start identifying one on an engine of the model (202).

    The id is derived from what defines the set, so the same request always returns the same set. A set that is being
    identified is `in_progress` until `GET` returns it as `completed`, or as `failed` with an error. Repeating the
    request then tries again.
    """
    neuron_set = await asyncio.to_thread(parse_neuron_set, body)
    if isinstance(neuron_set.neurons, NeuronsByMethod):
        ref = await asyncio.to_thread(_ref, services, neuron_set.model, neuron_set.neurons)
        if not await asyncio.to_thread(services.neuron_sets.has, ref.id):
            await services.neuron_set_service.identify(neuron_set.model, ref)
            response.status_code = 202
            warnings = language_warnings(neuron_set.neurons.method, neuron_set.neurons.languages)
            return {**await _by_id(services, ref.id), "warnings": warnings}
        neuron_set_id = ref.id
    else:
        neuron_set_id = await asyncio.to_thread(
            services.neuron_set_service.import_set, neuron_set.model, neuron_set.neurons
        )
    return await _by_id(services, neuron_set_id)


@router.get("")
async def list_neuron_sets(
    services: ServicesDep,
    after: After = None,
    limit: Limit = 100,
    model: Annotated[str | None, Query(description="Return only the neuron sets that can steer this model.")] = None,
) -> dict[str, Any]:
    """List the neuron sets, oldest first; with `model`, only those that can steer this model.

    After them come those whose identification is in progress or has failed.
    """
    infos = await asyncio.to_thread(_infos, services, model)
    unfinished = await services.neuron_set_service.unfinished(model)
    listed: list[NeuronSetInfo | str] = [*infos, *sorted(unfinished.keys() - {info.id for info in infos})]
    start = 0
    if after is not None:
        ids = (each if isinstance(each, str) else each.id for each in listed)
        start = next((position for position, each in enumerate(ids, 1) if each == after), 0)
        if not start:
            raise NotFound(f"the list has no neuron set {after}", param="after")
    page = [
        _unfinished_object(each, unfinished[each]) if isinstance(each, str) else _neuron_set_object(each)
        for each in islice(listed, start, start + limit)
    ]
    return list_object(page, has_more=len(listed) > start + limit)


@router.get("/{neuron_set_id}", response_model=dict[str, Any])
async def get_neuron_set(
    services: ServicesDep,
    neuron_set_id: str,
    include: Annotated[Literal["neurons"] | None, Query(description="`neurons` adds the neurons themselves.")] = None,
) -> JSONResponse:
    """Return a neuron set: its origin, and the number of neurons of each language in total and by layer.

    A set that is being identified, for a sweep too, is `in_progress` and has its `progress`.
    """
    neuron_set = await _by_id(services, neuron_set_id)

    def with_neurons() -> dict[str, Any]:
        if neuron_set["status"] != "completed":
            return neuron_set
        neurons = services.neuron_set_service.neurons(neuron_set_id)
        by_layer = {language: _layer_counts(layers, neuron_set["layers"]) for language, layers in neurons.items()}
        return {**neuron_set, "by_layer": by_layer, **({"neurons": neurons} if include == "neurons" else {})}

    return await json_response(with_neurons)


def _infos(services: Services, model: str | None) -> list[NeuronSetInfo]:
    if model is None:
        return services.neuron_sets.infos()
    return services.neuron_sets.made_for(services.catalog.model(model).fingerprint)


async def _by_id(services: Services, neuron_set_id: str) -> dict[str, Any]:
    service = services.neuron_set_service
    try:
        return _neuron_set_object(await asyncio.to_thread(services.neuron_sets.get, neuron_set_id))
    except NotFound:
        status = await asyncio.to_thread(service.identification_status, neuron_set_id)
    if status is None:
        status = (await service.unfinished(None)).get(neuron_set_id)  # also of sets that cells wait for
    if status is None:  # unknown, or completed since the first look-up
        return _neuron_set_object(await asyncio.to_thread(services.neuron_sets.get, neuron_set_id))
    return _unfinished_object(neuron_set_id, status)


def _unfinished_object(neuron_set_id: str, status: IdentificationStatus) -> dict[str, Any]:
    error, progress = status.error, status.progress
    return {
        "id": neuron_set_id,
        "object": "neuron_set",
        "status": "in_progress" if error is None else "failed",
        "model": status.model,
        "error": None if error is None else error.message,
        "progress": None if progress is None else progress.to_dict(),
    }


def _ref(services: Services, model: str, neurons: NeuronsByMethod) -> NeuronsRef:
    return neurons_to_identify(neurons, services.catalog.model(model), services.catalog).ref


def _layer_counts(neurons: Mapping[str, Sequence[int]], layers: int) -> list[int]:
    """Return the number of neurons in each of a model's layers."""
    return [len(neurons.get(str(layer), ())) for layer in range(layers)]


def _neuron_set_object(info: NeuronSetInfo) -> dict[str, Any]:
    warnings = language_warnings(info.method, tuple(info.languages))
    return {"object": "neuron_set", "status": "completed", **asdict(info), "warnings": warnings}
