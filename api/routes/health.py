"""Health checks: whether the process is alive, and whether its engines are ready."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.services import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 200 while the process is alive."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: ServicesDep) -> JSONResponse:
    """Answer 200 if every model has a ready engine, otherwise 503. Both responses list the engines.

    `missing` lists the models without a ready engine. `unsupervised` lists the models with an engine whose supervisor
    has ended, so that the engine is not restarted; this is answered by 503 as well, because only a retry of the engine
    or a restart of the server helps.
    """
    engines = [dict(engine) for engine in services.engine_monitor.engines()]
    ready = {engine["model"] for engine in engines if engine["state"] == "ready"}
    missing = {engine["model"] for engine in engines} - ready
    unsupervised = {engine["model"] for engine in engines if not engine["supervised"]}
    unready = bool(missing or unsupervised)
    body: dict[str, Any] = {
        "status": "unavailable" if unready else "ready",
        "missing": sorted(missing),
        "unsupervised": sorted(unsupervised),
        "engines": engines,
    }
    return JSONResponse(body, 503 if unready else 200)
