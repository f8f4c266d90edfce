"""The report of a sweep, as `ampsweep report` writes it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from ampsweep.version import __version__
from api.http.range_response import is_not_modified
from api.routes.results import checked_sweep
from api.services import ServicesDep

router = APIRouter(prefix="/sweeps", tags=["results"])

_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'"
)
"""The page holds its own style and scripts. In its sandbox it has no access to what the web page stores."""


@router.get("/{sweep_id}/report", response_class=HTMLResponse)
async def get_report(services: ServicesDep, sweep_id: str, request: Request) -> Response:
    """Return the report of an ended sweep: one self-contained HTML page. Answers 409 until the sweep has ended.

    It is rendered in a process of its own, one report at a time, which takes some seconds; the last ones are kept. A
    request with `If-None-Match` is answered with 304. Answers 503 while eight other reports wait for their turn.
    """
    sweep = await asyncio.to_thread(checked_sweep, services, sweep_id)
    assert sweep.files is not None
    headers = {
        "ETag": f'"{sweep.files.samples[:32]}-report-{__version__}"',
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    if is_not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    html = await services.reports.html(services.results, sweep, services.neuron_set_service.neurons)
    return HTMLResponse(html, headers=headers)
