"""The engines of this server: their states, and the retry of those that have failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from ampsweep.errors import NotFound
from api.caller import CalledBy
from api.keys import KeyScope
from api.lists import list_of
from api.services import Served, Services

router = APIRouter(prefix="/engines", tags=["engines"])


@router.get("")
async def list_engines(served: Served) -> dict[str, Any]:
    """List the engines of this server, those of a model by their index."""
    return _engines(served)


@router.post("/{model:path}/retry", status_code=202)
async def retry_engines(served: Served, caller: CalledBy, model: str) -> dict[str, Any]:
    """Start the model's engines that have failed, or wait for their next start, now; needs the scope `admin`.

    Answers at once with the model's engines: one that is retried is `starting` until it is `ready`, or `failed` again.
    """
    caller.need(KeyScope.ADMIN)
    if all(engine["model"] != model for engine in served.muscle.engines()):
        raise NotFound(f"no engine of model {model!r}", param="model")
    served.muscle.retry(model)
    return _engines(served, model)


def _engines(served: Services, model: str | None = None) -> dict[str, Any]:
    return list_of([_engine_object(one) for one in served.muscle.engines() if model in (None, one["model"])])


def _engine_object(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"{engine['model']}:{engine['index']}", "object": "engine", **engine}
