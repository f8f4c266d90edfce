"""What a sweep would cost, before it is submitted."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter

from api.http.spec_body import SPEC_TYPES, ParsedSpec, SpecBody
from api.openapi import request_body
from api.routes.sweeps import SPEC_EXAMPLE
from api.services import Services, ServicesDep
from jobs.spec.sweep import SweepSpec, parse_spec

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.post("/plan", openapi_extra=request_body(SweepSpec, SPEC_EXAMPLE, SPEC_TYPES))
async def plan_sweep(services: ServicesDep, body: ParsedSpec) -> dict[str, Any]:
    """Return what a sweep would cost: cells, requests and tokens by task, memory and an estimated time.

    Nothing is stored or computed. The body is that of `POST /v1/sweeps`, and errors are the same. Numbers other than
    `cells` and `reused` are of the cells that are still to be computed. `seconds_from` says what the time is estimated
    from; `seconds` is null if nothing is known about it. `spec` is the body, as JSON.
    """
    return await services.planning.run(partial(_estimate, services, body))


def _estimate(services: Services, body: SpecBody) -> dict[str, Any]:
    with body.located():
        estimate = services.estimator.estimate(parse_spec(body.value), max_cells=services.limits.cells)
    return {"object": "sweep_plan", **estimate.to_dict(), "spec": body.value}
