"""Batches: files of requests that run in the background, in the schema of OpenAI's API."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import Any, Literal

from fastapi import APIRouter

from ampsweep.domain.validation import Name, StrictModel, validate
from ampsweep.errors import InvalidRequest
from api.auth.principal import CurrentPrincipal
from api.http.json_body import JsonBody
from api.http.pagination import After, Limit, list_object
from api.openai.batch_rows import Endpoint
from api.openai.messages import Metadata
from api.openai.route import OpenAIRoute
from api.openapi import request_body
from api.routes.files import ExpiresAfter
from api.services import Services, ServicesDep
from jobs.batches.records import BatchRecord, BatchState

MAX_ROWS = 50_000
"""Maximum number of requests of a batch, as in OpenAI's API."""
_EXAMPLE: dict[str, Any] = {
    "input_file_id": "file_0123456789abcdef0123456789abcdef",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}
_TIMES = (*(state.value for state in BatchState if state is not BatchState.VALIDATING),)

router = APIRouter(prefix="/batches", tags=["batches"], route_class=OpenAIRoute)


class BatchRequest(StrictModel):
    """A batch of the requests in an uploaded file, all of which go to one endpoint.

    `completion_window` is 24h: requests that have not been answered within a day fail.
    """

    input_file_id: Name
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


@router.post("", openapi_extra=request_body(BatchRequest, _EXAMPLE))
async def create_batch(services: ServicesDep, principal: CurrentPrincipal, body: JsonBody) -> dict[str, Any]:
    """Queue the requests of a file. They run with the priority of sweeps, behind interactive requests.

    A request that is malformed or fails has a line in the error file; the others are answered.
    """
    request = validate(BatchRequest, body)
    record = await asyncio.to_thread(_create, services, principal.id, request)
    services.batch_service.wake()
    return batch_object(record)


@router.get("")
async def list_batches(services: ServicesDep, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """List the batches, newest first."""
    page = await asyncio.to_thread(partial(services.batch_service.batches.list, after=after, limit=limit))
    return list_object(list(map(batch_object, page.data)), has_more=page.has_more)


@router.get("/{batch_id}")
async def get_batch(services: ServicesDep, batch_id: str) -> dict[str, Any]:
    """Return a batch with its status and its counts; once it has ended, with the ids of its output and error files."""
    return batch_object(await asyncio.to_thread(services.batch_service.batches.get, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(services: ServicesDep, principal: CurrentPrincipal, batch_id: str) -> dict[str, Any]:
    """Cancel a batch. It is `cancelled` once its results so far are published. 409 if it has ended."""
    record = await asyncio.to_thread(services.batch_service.batches.get, batch_id)
    principal.need_ownership(record.owner, f"batch {batch_id}")
    return batch_object(await services.batch_service.cancel(batch_id))


def batch_object(record: BatchRecord) -> dict[str, Any]:
    """Return the JSON object of a batch. Times are in seconds since the epoch."""
    errors = (
        [] if record.error is None else [{"code": "batch_failed", "message": record.error, "param": None, "line": None}]
    )
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "errors": {"object": "list", "data": errors} if record.state is BatchState.FAILED else None,
        "input_file_id": record.input_file_id,
        "completion_window": "24h",
        "status": record.state.value,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": int(record.created_at),
        "expires_at": int(record.expires_at),
        **{f"{name}_at": _seconds(record.times.get(f"{name}_at")) for name in _TIMES},
        "request_counts": {
            "total": record.counts.total,
            "completed": record.counts.completed,
            "failed": record.counts.failed,
        },
        "metadata": record.metadata,
        "owner": record.owner,
    }


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)


def _create(services: Services, owner: str, request: BatchRequest) -> BatchRecord:
    batches, contents = services.batch_service.batches, services.batch_service.files
    file = batches.files.get(request.input_file_id)
    if file.purpose != "batch":
        message = (
            f"the file {file.id} has the purpose {file.purpose}, not batch; upload the requests with purpose batch"
        )
        raise InvalidRequest(message, param="input_file_id")
    total = sum(1 for _ in islice(contents.lines(file.id), MAX_ROWS + 1))
    if not total:
        raise InvalidRequest(f"the file {file.id} has no requests; write one per line", param="input_file_id")
    if total > MAX_ROWS:
        message = f"the file {file.id} has more than {MAX_ROWS} requests; divide them among several batches"
        raise InvalidRequest(message, param="input_file_id")
    expires_after = request.output_expires_after
    return batches.create(
        owner=owner,
        endpoint=request.endpoint,
        input_file_id=file.id,
        total=total,
        metadata=request.metadata,
        output_expires_after=None if expires_after is None else expires_after.seconds,
    )
