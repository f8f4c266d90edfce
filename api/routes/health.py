"""Health checks: whether the process is alive, and whether its database and engines are ready."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from api.services import ServicesDep
from api.store_check import StoreCheck

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 200 while the process is alive."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, services: ServicesDep) -> JSONResponse:
    """Answer 200 if the database answers and every model has a ready engine, otherwise 503, with the same fields.

    `database` is `ready` or `unavailable`: without the database, no sweep can be submitted or read. `engines` lists the
    engines. `missing` lists the models without a ready engine. `unsupervised` lists the models with an engine whose
    supervisor has ended, so that the engine is not restarted; this is answered by 503 as well, because only a retry of
    the engine or a restart of the server helps.
    """
    store_answers = await cast("StoreCheck", request.app.state.store_check).answers()
    engines = [dict(engine) for engine in services.engine_monitor.engines()]
    ready = {engine["model"] for engine in engines if engine["state"] == "ready"}
    missing = {engine["model"] for engine in engines} - ready
    unsupervised = {engine["model"] for engine in engines if not engine["supervised"]}
    unready = bool(missing or unsupervised) or not store_answers
    body: dict[str, Any] = {
        "status": "unavailable" if unready else "ready",
        "database": "ready" if store_answers else "unavailable",
        "missing": sorted(missing),
        "unsupervised": sorted(unsupervised),
        "engines": engines,
    }
    return JSONResponse(body, 503 if unready else 200)
