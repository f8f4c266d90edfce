"""What a sweep left: its samples and its summary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ampsweep.errors import Conflict, DamagedFile, NotFound, Unavailable
from api.services import Served, Services
from api.stored_file import answer_with
from jobs.results import Results
from jobs.storage.protocol import StoredFile
from jobs.store.states import SweepState

PARQUET = "application/vnd.apache.parquet"

router = APIRouter(prefix="/sweeps", tags=["results"])


@router.get("/{sweep_id}/results", response_class=Response, responses={200: {"content": {PARQUET: {}}}})
async def get_results(served: Served, sweep_id: str, request: Request) -> Response:
    """Return the samples as one Parquet file, or the ranges of it that `Range` asks for. 409 before the sweep's end."""
    file = await asyncio.to_thread(_results, served, sweep_id)
    return await answer_with(file, request, media_type=PARQUET, filename=f"{sweep_id}.parquet")


@router.get("/{sweep_id}/summary", response_model=None)
async def get_summary(
    served: Served,
    sweep_id: str,
    request: Request,
    format: Literal["json", "csv", "parquet"] = "json",  # noqa: A002  (the public name)
) -> Response:
    """Return the summary: a row a steered cell, with its difference to the baseline. 409 before the sweep's end."""
    file = await asyncio.to_thread(_summary, served, sweep_id)
    if format == "parquet":
        return await answer_with(file, request, media_type=PARQUET, filename=f"{sweep_id}-summary.parquet")
    return await asyncio.to_thread(_written, served.results, sweep_id, format)


def _written(results: Results, sweep_id: str, form: str) -> Response:
    from jobs.summary import summary_csv, summary_json  # here, since scipy comes with it

    if form == "csv":
        return Response(summary_csv(results, sweep_id), media_type="text/csv")
    return JSONResponse(summary_json(results, sweep_id))


def _results(served: Services, sweep_id: str) -> StoredFile:
    return _published(served, sweep_id, served.results.samples_file)


def _summary(served: Services, sweep_id: str) -> StoredFile:
    return _published(served, sweep_id, served.results.summary_file)


def _published(served: Services, sweep_id: str, find: Callable[[str], StoredFile]) -> StoredFile:
    """Return a file of a sweep that holds what was published.

    Conflict where the sweep's state says that there is none, NotFound where it has expired. Where a file is lost or
    damaged the sweep's files are put together again, and Unavailable says so.
    """
    sweep = served.store.get_sweep(sweep_id)
    if sweep.expired_at is not None:
        raise NotFound(f"the results of sweep {sweep_id} have expired; send the sweep again to compute them anew")
    if sweep.state not in (SweepState.COMPLETED, SweepState.FAILED):
        raise Conflict(f"sweep {sweep_id} is {sweep.state.value}; its results are there once it is completed")
    if sweep.state is SweepState.FAILED and sweep.files is None:
        raise Conflict(f"sweep {sweep_id} has failed without results: {sweep.error}")
    try:
        served.results.check_sweep(sweep)
    except DamagedFile as error:
        served.store.reopen_sweep(sweep_id, error.message)
        served.wake()
        raise Unavailable(f"{error.message}; it is put together again, try again soon") from error
    return find(sweep_id)
