"""Sweeps: create, list, show, rename, tag, pause, resume, cancel and delete them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response

from ampsweep.domain.validation import Name, StrictModel, unique, validate
from api.auth.principal import CurrentPrincipal, Principal
from api.http.idempotency import IdempotencyKey
from api.http.json_body import JsonBody, json_response
from api.http.pagination import After, Limit, list_object
from api.http.spec_body import SPEC_TYPES, ParsedSpec, SpecBody
from api.middleware.request_id import bind_sweep
from api.openapi import request_body
from api.services import Services, ServicesDep
from api.sweep_stage import sweep_stage
from jobs.planning.planner import Plan, plan
from jobs.results.failures import SweepError, errors_of, find_errors
from jobs.spec.sweep import SweepSpec, parse_spec
from jobs.store.records import Event, RequestCounts, SweepRecord
from jobs.store.transitions import SweepState

SPEC_EXAMPLE: dict[str, Any] = {
    "name": "first-look",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2, 5]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 100}],
}

_TAG = "Return only the sweeps with this tag; given several times, only those with all of the tags."
_TEXT = "Return only the sweeps with this text in their name, model or id, in upper or lower case."
_CHANGES_EXAMPLE: dict[str, Any] = {"name": "qwen, all languages", "tags": ["paper", "qwen"]}

MAX_TAGS = 32
"""Maximum number of tags of a sweep."""
_TAG_PATTERN = r"^[^\s,\x00-\x1f\x7f]{1,64}$"


def _tag(value: str) -> str:
    if not re.fullmatch(_TAG_PATTERN[1:-1], value):
        message = "must have 1 to 64 characters, without white space, commas and control characters"
        raise PydanticCustomError("tag", message)
    return value


Tag = Annotated[str, AfterValidator(_tag), WithJsonSchema({"type": "string", "pattern": _TAG_PATTERN})]

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


class SweepChanges(StrictModel):
    """What is to be changed of a sweep: its `name`, its `tags`, or both. The tags replace those that it has."""

    name: Name | None = None
    tags: Annotated[tuple[Tag, ...], Field(strict=False, max_length=MAX_TAGS), AfterValidator(unique)] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> SweepChanges:
        if self.name is None and self.tags is None:
            raise PydanticCustomError("nothing_given", "is required, or tags", {"key": "name"})
        return self


@router.post("", status_code=201, openapi_extra=request_body(SweepSpec, SPEC_EXAMPLE, SPEC_TYPES))
async def create_sweep(
    services: ServicesDep,
    principal: CurrentPrincipal,
    body: ParsedSpec,
    idempotency_key: IdempotencyKey,
    priority: Annotated[int, Query(ge=-100, le=100)] = 0,
) -> dict[str, Any]:
    """Validate and plan a sweep and store it with its cells. The response is sent before anything is computed.

    The body is JSON, or YAML with the content type `application/yaml`; an error about a field then ends with its line
    and column.

    Repeating the request with the same `Idempotency-Key` and the same spec returns the response of the first request,
    whatever the sweep has done since. With another spec it is answered by 422, and by 409 while the first request is
    still in progress.

    Cells of sweeps with a higher `priority` run first. Among sweeps of equal priority, the engines are shared between
    API keys, and then between the sweeps of a key.
    """
    planned = await services.planning.run(partial(_existing_or_planned, services, body, idempotency_key))
    if isinstance(planned, SweepRecord):
        record = planned
    else:
        record = await asyncio.to_thread(_stored, services, principal, planned, idempotency_key, priority)
    bind_sweep(record.id)
    _announce(services)
    return sweep_object(record)


@router.get("", response_model=dict[str, Any])
async def list_sweeps(
    services: ServicesDep,
    after: After = None,
    limit: Limit = 20,
    tag: Annotated[list[str] | None, Query(max_length=MAX_TAGS, description=_TAG)] = None,
    text: Annotated[str, Query(max_length=200, description=_TEXT)] = "",
) -> JSONResponse:
    """List the sweeps, newest first."""

    def sweeps() -> dict[str, Any]:
        page = services.store.list_sweeps(after=after, limit=limit, tags=tag or (), text=text)
        errors = find_errors(services.store, page.data)
        return list_object(list(map(sweep_object, page.data, errors)), has_more=page.has_more)

    return await json_response(sweeps)


@router.get("/{sweep_id}")
async def get_sweep(services: ServicesDep, sweep_id: str) -> dict[str, Any]:
    """Return a sweep with its current status, its progress and what its results lack.

    `stage` says what a sweep in progress does before cells are computed: it waits for an engine that is starting, or
    its neurons are being found.
    """
    record = await asyncio.to_thread(services.store.get_sweep, sweep_id)
    (errors,) = await asyncio.to_thread(find_errors, services.store, [record])
    return sweep_object(record, errors, stage=await sweep_stage(services, record))


@router.patch("/{sweep_id}", openapi_extra=request_body(SweepChanges, _CHANGES_EXAMPLE))
async def update_sweep(
    services: ServicesDep, principal: CurrentPrincipal, sweep_id: str, body: JsonBody
) -> dict[str, Any]:
    """Rename a sweep, replace its tags, or both. `spec`, and so the results, keep the name it was submitted with."""
    changes = await asyncio.to_thread(validate, SweepChanges, body)
    await _check_owner(services, principal, sweep_id)
    await asyncio.to_thread(services.store.update_sweep, sweep_id, name=changes.name, tags=changes.tags)
    return await asyncio.to_thread(_with_errors, services, sweep_id)


@router.delete("/{sweep_id}", status_code=204, response_class=Response)
async def delete_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> Response:
    """Delete a sweep that has ended, with its results and events. 409 if it has not: cancel it first.

    The response is sent at once; the server then deletes the files, and continues after a restart. Cells that other
    sweeps need are kept.
    """
    await _check_owner(services, principal, sweep_id)
    await asyncio.to_thread(services.store.delete_sweep, sweep_id)
    services.clean_up()
    services.notifier.notify()
    return Response(status_code=204)


@router.post("/{sweep_id}/pause")
async def pause_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Pause a sweep: no more of its cells are started, and running ones are completed. 409 unless it is in progress."""
    return await _change_state(services, principal, sweep_id, action=services.store.pause_sweep)


@router.post("/{sweep_id}/resume")
async def resume_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Resume a paused sweep. 409 unless it is paused."""
    return await _change_state(services, principal, sweep_id, action=services.store.resume_sweep)


@router.post("/{sweep_id}/cancel")
async def cancel_sweep(services: ServicesDep, principal: CurrentPrincipal, sweep_id: str) -> dict[str, Any]:
    """Cancel a sweep. It is `cancelled` once its running cells have been aborted. 409 if it has ended."""
    return await _change_state(services, principal, sweep_id, action=services.store.cancel_sweep)


async def _change_state(
    services: Services, principal: Principal, sweep_id: str, *, action: Callable[[str], SweepRecord]
) -> dict[str, Any]:
    """Change the state of a sweep for its owner or an admin; raise Forbidden for any other principal."""
    await _check_owner(services, principal, sweep_id)
    record = await asyncio.to_thread(action, sweep_id)
    _announce(services)
    return sweep_object(record)


async def _check_owner(services: Services, principal: Principal, sweep_id: str) -> None:
    """Raise Forbidden unless a sweep is the principal's own, or the principal is an admin."""
    sweep = await asyncio.to_thread(services.store.get_sweep, sweep_id)
    principal.need_ownership(sweep.owner, f"sweep {sweep_id}")


def _with_errors(services: Services, sweep_id: str) -> dict[str, Any]:
    record = services.store.get_sweep(sweep_id)
    (errors,) = find_errors(services.store, [record])
    return sweep_object(record, errors)


def sweep_object(
    record: SweepRecord, errors: Sequence[SweepError] | None = None, *, stage: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object of a sweep. Times are in seconds since the epoch.

    Args:
        record: The sweep.
        errors: What its results lack, with reasons; by default only what the record itself shows.
        stage: What it does before cells are computed (`sweep_stage`), if that is known.
    """
    counts = record.request_counts
    return {
        "id": record.id,
        "object": "sweep",
        "name": record.name,
        "tags": list(record.tags),
        "status": record.state.value,
        "stage": stage,
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


def _existing_or_planned(
    services: Services, body: SpecBody, idempotency_key: str | None
) -> SweepRecord | tuple[SweepSpec, Plan]:
    """Return the sweep of an earlier request with the same key, or the spec and its plan."""
    with body.located():
        spec = parse_spec(body.value)
        if idempotency_key is not None and (existing := services.store.sweep_of_key(idempotency_key, spec.to_dict())):
            return _as_created(existing, services.store.events(existing.id, limit=1)[0])
        return spec, plan(spec, services.catalog, services.neuron_sets, max_cells=services.limits.cells)


def _stored(
    services: Services,
    principal: Principal,
    planned: tuple[SweepSpec, Plan],
    idempotency_key: str | None,
    priority: int,
) -> SweepRecord:
    spec, cells = planned
    record = services.store.create_sweep(
        name=spec.name,
        spec=spec.to_dict(),
        cells=cells.cells,
        idempotency_key=idempotency_key,
        owner=principal.id,
        priority=priority,
        warnings=cells.warnings,
    )
    (first,) = services.store.events(record.id, limit=1)
    return _as_created(record, first)


def _as_created(record: SweepRecord, first: Event) -> SweepRecord:
    """Return a sweep as it was when it was created, with the counts of its first event, which include reused cells.

    It had the name of its spec, and no tags.
    """
    counts = RequestCounts(**first.data["request_counts"])
    return replace(
        record,
        name=record.spec["name"],
        tags=(),
        state=SweepState.FINALIZING if counts.completed == counts.total else SweepState.IN_PROGRESS,
        request_counts=counts,
        samples=first.data["samples"],
        failed_samples=first.data.get("failed_samples", 0),
        ended_at=None,
        expired_at=None,
        error=None,
    )


def _announce(services: Services) -> None:
    """Wake the dispatcher and the event streams, because the sweeps have changed."""
    services.wake()
    services.notifier.notify()
