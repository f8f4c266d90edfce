"""What a sweep left: its samples and its summary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.responses import FileResponse, JSONResponse, Response

from ampsweep.errors import Conflict, NotFound
from api.services import Served, Services
from jobs.results import Results
from jobs.store.states import SweepState

PARQUET = "application/vnd.apache.parquet"

router = APIRouter(prefix="/sweeps", tags=["results"])


@router.get("/{sweep_id}/results", response_class=FileResponse)
async def get_results(served: Served, sweep_id: str) -> FileResponse:
    """Return the samples as one Parquet file, or the ranges of it that `Range` asks for. 409 before the sweep's end."""
    return _file(await asyncio.to_thread(_results, served, sweep_id), sweep_id)


@router.get("/{sweep_id}/summary", response_model=None)
async def get_summary(
    served: Served,
    sweep_id: str,
    format: Literal["json", "csv", "parquet"] = "json",  # noqa: A002  (the public name)
) -> Response:
    """Return the summary: a row a steered cell, with its difference to the baseline. 409 before the sweep's end."""
    path = await asyncio.to_thread(_summary, served, sweep_id)
    if format == "parquet":
        return _file(path, f"{sweep_id}-summary")
    return await asyncio.to_thread(_written, served.results, sweep_id, format)


def _written(results: Results, sweep_id: str, form: str) -> Response:
    from jobs.summary import summary_csv, summary_json  # here, since scipy comes with it

    if form == "csv":
        return Response(summary_csv(results, sweep_id), media_type="text/csv")
    return JSONResponse(summary_json(results, sweep_id))


def _file(path: Path, name: str) -> FileResponse:
    return FileResponse(path, media_type=PARQUET, filename=f"{name}.parquet")


def _results(served: Services, sweep_id: str) -> Path:
    return _published(served, sweep_id, served.results.results_path)


def _summary(served: Services, sweep_id: str) -> Path:
    return _published(served, sweep_id, served.results.summary_path)


def _published(served: Services, sweep_id: str, find: Callable[[str], Path]) -> Path:
    """Return a file of a sweep: Conflict where the sweep's state says that there is none."""
    sweep = served.store.get_sweep(sweep_id)
    message = f"sweep {sweep_id} is {sweep.state.value}; its results are there once it is completed"
    if sweep.state not in (SweepState.COMPLETED, SweepState.FAILED):
        raise Conflict(message)
    try:
        return find(sweep_id)
    except NotFound:
        raise Conflict(message) from None
