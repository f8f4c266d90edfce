"""Whether the server lives, and whether its engines are ready to work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.services import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer while the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: ServicesDep) -> JSONResponse:
    """Answer 200 once every model has an engine that is ready, else 503; both list the engines.

    `missing` has the models without a ready engine; `unsupervised` those of which an engine has lost its supervisor, so
    that nobody starts it again: 503 too, since only a retry or a restart of the server helps.
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
