"""Whether the server lives, and whether its engines are ready to work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.services import Served

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer while the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(served: Served) -> JSONResponse:
    """Answer 200 once every model has an engine that is ready, else 503 and the models `missing`; both list engines."""
    engines = [dict(engine) for engine in served.muscle.engines()]
    ready = {engine["model"] for engine in engines if engine["state"] == "ready"}
    missing = {engine["model"] for engine in engines} - ready
    status = "unavailable" if missing else "ready"
    body: dict[str, Any] = {"status": status, "missing": sorted(missing), "engines": engines}
    return JSONResponse(body, 503 if missing else 200)
