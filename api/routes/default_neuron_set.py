"""The neuron set that steers a model's requests which name none: shown, set and cleared."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends

from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import NotFound
from api.auth.api_keys import KeyScope
from api.auth.principal import CurrentPrincipal
from api.http.json_body import JsonBody
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.neuron_sets.default import DefaultNeuronSet, default_neuron_set, set_default_neuron_set

log = logging.getLogger(__name__)

_EXAMPLE: dict[str, Any] = {"neuron_set": "ns_0123456789abcdef0123456789abcdef"}

router = APIRouter(prefix="/models", tags=["neuron sets"])


class DefaultNeuronSetRequest(StrictModel):
    """The neuron set that steers a model's requests which name none."""

    neuron_set: Name


def parse_default(raw: object) -> str:
    """Read the body and return the id in it; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(DefaultNeuronSetRequest, raw).neuron_set


def _only_admins(principal: CurrentPrincipal) -> None:
    principal.need(KeyScope.ADMIN)


@router.get("/{model:path}/default-neuron-set")
async def get_default(services: ServicesDep, model: str) -> dict[str, Any]:
    """Return the neuron set that steers requests to a model which name none.

    `source` is `operator` where it was set, `only_set` where the model has no other. Both are null where a request has
    to name one.
    """
    fingerprint = await asyncio.to_thread(_fingerprint, services, model)
    return _default_object(model, await asyncio.to_thread(default_neuron_set, fingerprint, services.neuron_sets))


@router.put(
    "/{model:path}/default-neuron-set",
    dependencies=[Depends(_only_admins)],  # before the body is read
    openapi_extra=request_body(DefaultNeuronSetRequest, _EXAMPLE),
)
async def set_default(services: ServicesDep, model: str, body: JsonBody) -> dict[str, Any]:
    """Make a neuron set the default of a model, for all servers on this storage; needs the scope `admin`."""
    return await _set_default(services, model, parse_default(body))


@router.delete("/{model:path}/default-neuron-set", dependencies=[Depends(_only_admins)])
async def clear_default(services: ServicesDep, model: str) -> dict[str, Any]:
    """Take a model's default back, and return what holds without it; needs the scope `admin`."""
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
        raise NotFound(f"no model {model!r}", param="model")
    return services.catalog.model(model).fingerprint


def _default_object(model: str, default: DefaultNeuronSet) -> dict[str, Any]:
    return {"object": "default_neuron_set", "model": model, **asdict(default)}
