"""The neuron sets that sweeps and completions may name by id."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from api.lists import list_of
from api.services import Served
from jobs.neuron_sets import NeuronSetInfo

router = APIRouter(prefix="/neuron-sets", tags=["neuron sets"])


@router.get("")
async def list_neuron_sets(served: Served) -> dict[str, Any]:
    """List all neuron sets, the oldest first."""
    return list_of([_neuron_set_object(info) for info in await asyncio.to_thread(served.neuron_sets.infos)])


@router.get("/{neuron_set_id}")
async def get_neuron_set(served: Served, neuron_set_id: str) -> dict[str, Any]:
    """Return one neuron set: where it came from, and how many neurons each language has."""
    return _neuron_set_object(await asyncio.to_thread(served.neuron_sets.get, neuron_set_id))


def _neuron_set_object(info: NeuronSetInfo) -> dict[str, Any]:
    return {"object": "neuron_set", **asdict(info)}
