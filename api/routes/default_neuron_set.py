"""The default neuron set of a model, which steers requests that name none: show, set and clear it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends

from ampsweep.domain.validation import Name, StrictModel, validate
from api.auth.api_keys import KeyScope
from api.auth.principal import CurrentPrincipal
from api.http.json_body import JsonBody
from api.openapi import request_body
from api.routes.models import no_model
from api.services import Services, ServicesDep
from jobs.neuron_sets.default import DefaultNeuronSet, default_neuron_set, set_default_neuron_set

log = logging.getLogger(__name__)

_EXAMPLE: dict[str, Any] = {"neuron_set": "ns_0123456789abcdef0123456789abcdef"}

router = APIRouter(prefix="/models", tags=["neuron sets"])


class DefaultNeuronSetRequest(StrictModel):
    """The id of the neuron set that becomes the default of a model."""

    neuron_set: Name


def _require_admin(principal: CurrentPrincipal) -> None:
    principal.need(KeyScope.ADMIN)


@router.get("/{model:path}/default-neuron-set")
async def get_default(services: ServicesDep, model: str) -> dict[str, Any]:
    """Return the default neuron set of a model, which steers requests that name no neuron set.

    `source` is `operator` if it was set, and `only_set` if it is the only neuron set of the model. Both are null if
    there is no default: requests must then name a neuron set.
    """
    fingerprint = await asyncio.to_thread(_fingerprint, services, model)
    return _default_object(model, await asyncio.to_thread(default_neuron_set, fingerprint, services.neuron_sets))


@router.put(
    "/{model:path}/default-neuron-set",
    dependencies=[Depends(_require_admin)],  # before the body is read
    openapi_extra=request_body(DefaultNeuronSetRequest, _EXAMPLE),
)
async def set_default(services: ServicesDep, model: str, body: JsonBody) -> dict[str, Any]:
    """Set the default neuron set of a model, for all servers that share the storage. Needs the scope `admin`."""
    return await _set_default(services, model, validate(DefaultNeuronSetRequest, body).neuron_set)


@router.delete("/{model:path}/default-neuron-set", dependencies=[Depends(_require_admin)])
async def clear_default(services: ServicesDep, model: str) -> dict[str, Any]:
    """Clear the default neuron set of a model and return what applies without it. Needs the scope `admin`."""
    return await _set_default(services, model, None)


async def _set_default(services: Services, model: str, neuron_set_id: str | None) -> dict[str, Any]:
    fingerprint = await asyncio.to_thread(_fingerprint, services, model)
    default = await asyncio.to_thread(
        set_default_neuron_set, fingerprint, neuron_set_id, services.neuron_sets, model=model
    )
    log.info("the default neuron set was changed", extra={"model": model, "neuron_set": neuron_set_id})
    return _default_object(model, default)


def _fingerprint(services: Services, model: str) -> str:
    if model not in services.catalog.models:
        raise no_model(model)
    return services.catalog.model(model).fingerprint


def _default_object(model: str, default: DefaultNeuronSet) -> dict[str, Any]:
    return {"object": "default_neuron_set", "model": model, **asdict(default)}
