"""Sweeps: sent, listed, looked at, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from ampsweep.errors import Forbidden
from api.caller import CalledBy, Caller
from api.document import body_of
from api.examples import SWEEP
from api.idempotency import IdempotencyKey
from api.json_answer import json_answer
from api.json_body import JsonBody
from api.lists import After, Limit, list_of
from api.log_ids import log_sweep
from api.services import Served, Services
from jobs.failures import SweepError, errors_of, find_errors
from jobs.plan import plan
from jobs.spec import SweepSpec, parse_spec
from jobs.store.records import Event, RequestCounts, SweepRecord
from jobs.store.states import SweepState

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.post("", status_code=201, openapi_extra=body_of(SweepSpec, SWEEP))
async def create_sweep(
    served: Served,
    caller: CalledBy,
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
    record = await asyncio.to_thread(_create, served, caller, spec, idempotency_key, priority)
    log_sweep(record.id)
    _changed(served)
    return sweep_object(record)


@router.get("", response_model=dict[str, Any])
async def list_sweeps(served: Served, after: After = None, limit: Limit = 20) -> JSONResponse:
    """List sweeps, the newest first."""

    def sweeps() -> dict[str, Any]:
        page = served.store.list_sweeps(after=after, limit=limit)
        return list_of([sweep_object(record) for record in page.data], has_more=page.has_more)

    return await json_answer(sweeps)


@router.get("/{sweep_id}")
async def get_sweep(served: Served, sweep_id: str) -> dict[str, Any]:
    """Return a sweep as it stands."""
    return await asyncio.to_thread(_with_reason, served, sweep_id)


@router.post("/{sweep_id}/pause")
async def pause_sweep(served: Served, caller: CalledBy, sweep_id: str) -> dict[str, Any]:
    """Begin no more cells of a sweep; what runs goes on. 409 unless it is in progress."""
    return await _steered(served, caller, served.store.pause_sweep, sweep_id)


@router.post("/{sweep_id}/resume")
async def resume_sweep(served: Served, caller: CalledBy, sweep_id: str) -> dict[str, Any]:
    """Let a paused sweep go on. 409 unless it is paused."""
    return await _steered(served, caller, served.store.resume_sweep, sweep_id)


@router.post("/{sweep_id}/cancel")
async def cancel_sweep(served: Served, caller: CalledBy, sweep_id: str) -> dict[str, Any]:
    """Stop a sweep; it is `cancelled` once what runs has been aborted. 409 if it has ended."""
    return await _steered(served, caller, served.store.cancel_sweep, sweep_id)


async def _steered(
    served: Services, caller: Caller, steer: Callable[[str], SweepRecord], sweep_id: str
) -> dict[str, Any]:
    """Let the one who sent a sweep decide about it, or an admin; Forbidden for anybody else."""
    sweep = await asyncio.to_thread(served.store.get_sweep, sweep_id)
    if sweep.owner != caller.id and not caller.is_admin:
        raise Forbidden(f"sweep {sweep_id} was sent with another key; that key or an admin's may do this")
    record = await asyncio.to_thread(steer, sweep_id)
    _changed(served)
    return sweep_object(record)


def _with_reason(served: Services, sweep_id: str) -> dict[str, Any]:
    record = served.store.get_sweep(sweep_id)
    return sweep_object(record, find_errors(served.store, record))


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
    served: Services, caller: Caller, spec: SweepSpec, idempotency_key: str | None, priority: int
) -> SweepRecord:
    if idempotency_key is not None and (earlier := served.store.sweep_of_key(idempotency_key, spec.to_dict())):
        return _as_created(earlier, served.store.events(earlier.id, limit=1)[0])
    planned = plan(spec, served.catalog, served.neuron_sets, max_cells=served.limits.cells)
    record = served.store.create_sweep(
        name=spec.name,
        spec=spec.to_dict(),
        cells=planned.cells,
        idempotency_key=idempotency_key,
        owner=caller.id,
        priority=priority,
        warnings=planned.warnings,
    )
    (first,) = served.store.events(record.id, limit=1)
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


def _changed(served: Services) -> None:
    served.wake()
    served.bell.ring()
