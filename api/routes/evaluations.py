"""Evaluations of a sweep: metrics over the texts that it generated, computed without generating anything anew."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi import Response as JsonResponse
from starlette.responses import Response

from ampsweep.errors import Conflict
from api.http.json_body import JsonBody
from api.http.pagination import list_object
from api.http.range_response import file_response
from api.http.table_stream import PARQUET
from api.openapi import file_responses, request_body
from api.routes.results import checked_sweep
from api.services import Services, ServicesDep
from jobs.evaluation.records import EvaluationRecord, EvaluationState
from jobs.evaluation.request import EvaluationRequest, parse_evaluation

_EXAMPLE: dict[str, Any] = {"metrics": ["lfs", "script"], "identifier": "py3langid"}

router = APIRouter(prefix="/sweeps/{sweep_id}/evaluations", tags=["evaluations"])


@router.post("", status_code=202, openapi_extra=request_body(EvaluationRequest, _EXAMPLE), responses={200: {}})
async def create_evaluation(
    services: ServicesDep, sweep_id: str, body: JsonBody, response: JsonResponse
) -> dict[str, Any]:
    """Queue an evaluation of an ended sweep (202), or return it if it is completed (200).

    The id is derived from the results and the request, so the same request always returns the same evaluation. Any
    server on the same database computes it, and another one takes it over if that server ends. After a failure, the
    request queues it again; what a judge has rated before is not asked again.
    """
    request = await asyncio.to_thread(parse_evaluation, body)
    sweep = await asyncio.to_thread(checked_sweep, services, sweep_id)
    record = await services.evaluation_service.submit(sweep, request)
    if record.state is EvaluationState.COMPLETED:
        response.status_code = 200
    return evaluation_object(record)


@router.get("")
async def list_evaluations(services: ServicesDep, sweep_id: str) -> dict[str, Any]:
    """List the evaluations of a sweep, oldest first."""

    def records() -> list[EvaluationRecord]:
        services.store.get_sweep(sweep_id)
        return services.evaluation_service.evaluations.of_sweep(sweep_id)

    return list_object([evaluation_object(record) for record in await asyncio.to_thread(records)], has_more=False)


@router.get("/{evaluation_id}")
async def get_evaluation(services: ServicesDep, sweep_id: str, evaluation_id: str) -> dict[str, Any]:
    """Return an evaluation; once it is completed, with the values of each group."""
    return evaluation_object(await asyncio.to_thread(_record, services, sweep_id, evaluation_id))


@router.head("/{evaluation_id}/scores.parquet", include_in_schema=False)
@router.get("/{evaluation_id}/scores.parquet", response_class=Response, responses=file_responses(PARQUET))
async def get_scores(services: ServicesDep, sweep_id: str, evaluation_id: str, request: Request) -> Response:
    """Return the scores of single texts as Parquet; 409 unless the evaluation is completed."""
    record = await asyncio.to_thread(_record, services, sweep_id, evaluation_id)
    if record.state is not EvaluationState.COMPLETED:
        raise Conflict(f"evaluation {evaluation_id} is {record.state.value} and has no scores")
    file = services.results.scores.of(record)
    return await file_response(file, request, media_type=PARQUET, filename=f"{evaluation_id}.parquet")


def evaluation_object(record: EvaluationRecord) -> dict[str, Any]:
    """Return the JSON object of an evaluation. Times are in seconds since the epoch."""
    return {
        "id": record.id,
        "object": "evaluation",
        "sweep_id": record.sweep_id,
        "status": record.state.value,
        "request": record.request,
        "groups": record.groups,
        "left_out": record.left_out,
        "error": record.error,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }


def _record(services: Services, sweep_id: str, evaluation_id: str) -> EvaluationRecord:
    services.store.get_sweep(sweep_id)
    return services.evaluation_service.evaluations.get(sweep_id, evaluation_id)
