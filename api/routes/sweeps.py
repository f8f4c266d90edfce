"""Sweeps: sent, listed, looked at, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from ampsweep.errors import Forbidden
from api.auth.principal import CurrentPrincipal, Principal
from api.http.idempotency import IdempotencyKey
from api.http.json_body import JsonBody, json_response
from api.http.pagination import After, Limit, list_object
from api.middleware.request_id import log_sweep
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.planning.planner import plan
from jobs.results.failures import SweepError, errors_of, find_errors
from jobs.spec import SweepSpec, parse_spec
from jobs.store.records import Event, RequestCounts, SweepRecord
from jobs.store.transitions import SweepState

_EXAMPLE: dict[str, Any] = {
    "name": "first-look",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2, 5]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 100}],
}

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.post("", status_code=201, openapi_extra=request_body(SweepSpec, _EXAMPLE))
async def create_sweep(
    services: ServicesDep,
    principal: CurrentPrincipal,
    body: JsonBody,
    idempotency_key: IdempotencyKey,
    priority: Annotated[int, Query(ge=-100, le=100)] = 0,
) -> dict[str, Any]:
    """Check and plan a sweep, store it with its cells, and answer before anything is computed.

    The same `Idempotency-Key` with the same spec gives the first call's answer, however far its sweep is by then; with
    another spec it is 422, and 409 while the first call is being answered. Cells of a sweep of higher `priority` go
    first; among equals, engines are shared between callers, then between a caller's sweeps.
    """
    spec = await asyncio.to_thread(parse_spec, body)
    record = await asyncio.to_thread(_create, services, principal, spec, idempotency_key, priority)
    log_sweep(record.id)
    _changed(services)
    return sweep_object(record)


@router.get("", response_model=dict[str, Any])
async def list_sweeps(services: ServicesDep, after: After = None, limit: Limit = 20) -> JSONResponse:
    """List sweeps, the newest first."""

    def sweeps() -> dict[str, Any]:
        page = services.store.list_sweeps(after=after, limit=limit)
        return list_object([sweep_object(record) for record in page.data], has_more=page.has_more)

    return await json_response(sweeps)


@router.get("/{sweep_id}")
async def get_sweep(services: ServicesDep, sweep_id: str) -> dict[str, Any]:
    """Return a sweep as it stands."""
    return await asyncio.to_thread(_with_reason, services, sweep_id)


@router.post("/{sweep_id}/pause")
async def pause_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Begin no more cells of a sweep; what runs goes on. 409 unless it is in progress."""
    return await _steered(services, principal, services.store.pause_sweep, sweep_id)


@router.post("/{sweep_id}/resume")
async def resume_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Let a paused sweep go on. 409 unless it is paused."""
    return await _steered(services, principal, services.store.resume_sweep, sweep_id)


@router.post("/{sweep_id}/cancel")
async def cancel_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Stop a sweep; it is `cancelled` once what runs has been aborted. 409 if it has ended."""
    return await _steered(services, principal, services.store.cancel_sweep, sweep_id)


async def _steered(
    services: Services, principal: Principal, steer: Callable[[str], SweepRecord], sweep_id: str
) -> dict[str, Any]:
    """Let the one who sent a sweep decide about it, or an admin; Forbidden for anybody else."""
    sweep = await asyncio.to_thread(services.store.get_sweep, sweep_id)
    if sweep.owner != principal.id and not principal.is_admin:
        raise Forbidden(f"sweep {sweep_id} was sent with another key; that key or an admin's may do this")
    record = await asyncio.to_thread(steer, sweep_id)
    _changed(services)
    return sweep_object(record)


def _with_reason(services: Services, sweep_id: str) -> dict[str, Any]:
    record = services.store.get_sweep(sweep_id)
    return sweep_object(record, find_errors(services.store, record))


def sweep_object(record: SweepRecord, errors: Sequence[SweepError] | None = None) -> dict[str, Any]:
    """Return a sweep's public form. Times are seconds since the epoch.

    `errors` are what its results lack, by default without the first reason.
    """
    counts = record.request_counts
    return {
        "id": record.id,
        "object": "sweep",
        "name": record.name,
        "status": record.state.value,
        "request_counts": {
            "total": counts.total,
            "completed": counts.completed,
            "failed": counts.failed,
            "reused": counts.reused,
        },
        "samples": record.samples,
        "failed_samples": record.failed_samples,
        "priority": record.priority,
        "owner": record.owner,
        "created_at": record.created_at,
        "ended_at": record.ended_at,
        "expired_at": record.expired_at,
        "error": record.error,
        "errors": [asdict(error) for error in (errors_of(record) if errors is None else errors)],
        "warnings": list(record.warnings),
        "spec": record.spec,
    }


def _create(
    services: Services, principal: Principal, spec: SweepSpec, idempotency_key: str | None, priority: int
) -> SweepRecord:
    if idempotency_key is not None and (earlier := services.store.sweep_of_key(idempotency_key, spec.to_dict())):
        return _as_created(earlier, services.store.events(earlier.id, limit=1)[0])
    planned = plan(spec, services.catalog, services.neuron_sets, max_cells=services.limits.cells)
    record = services.store.create_sweep(
        name=spec.name,
        spec=spec.to_dict(),
        cells=planned.cells,
        idempotency_key=idempotency_key,
        owner=principal.id,
        priority=priority,
        warnings=planned.warnings,
    )
    (first,) = services.store.events(record.id, limit=1)
    return _as_created(record, first)


def _as_created(record: SweepRecord, first: Event) -> SweepRecord:
    """Return a sweep as it stood when it was stored, which its first event tells: with what was computed before."""
    counts = RequestCounts(**first.data["request_counts"])
    return replace(
        record,
        state=SweepState.FINALIZING if counts.completed == counts.total else SweepState.IN_PROGRESS,
        request_counts=counts,
        samples=first.data["samples"],
        failed_samples=first.data.get("failed_samples", 0),
        ended_at=None,
        expired_at=None,
        error=None,
    )


def _changed(services: Services) -> None:
    services.wake()
    services.notifier.notify()
