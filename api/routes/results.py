"""What a sweep left: its samples and its summary."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ampsweep.errors import Conflict, DamagedFile, NotFound, Unavailable
from api.http.negotiation import best_media_type
from api.http.range_response import file_response
from api.http.table_stream import ARROW, CSV, JSON, PARQUET, table_chunks, table_response
from api.openapi import file_responses
from api.services import Services, ServicesDep
from jobs.results.writer import Results
from jobs.storage.protocol import StoredFile
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState

_SAMPLES_AS = (PARQUET, ARROW, CSV, JSON)
_SUMMARY_AS = {"json": JSON, "csv": CSV, "parquet": PARQUET, "arrow": ARROW}
_ENDINGS = {PARQUET: "parquet", ARROW: "arrow", CSV: "csv", JSON: "json"}
PARTIAL_HEADER = "Ampsweep-Partial"
"""`included/total`: how many of the sweep's cells are in a partial answer."""

router = APIRouter(prefix="/sweeps", tags=["results"])


@router.head("/{sweep_id}/results", include_in_schema=False)
@router.get("/{sweep_id}/results", response_class=Response, responses=file_responses(*_SAMPLES_AS))
async def get_results(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the samples, in the form that `Accept` asks for; 409 before the sweep's end.

    With `partial` those of the cells that are completed by now, also of a sweep that was cancelled; the header
    `Ampsweep-Partial` says of how many, unless the sweep is completed.

    Parquet, unless another is liked better, comes whole or in the ranges that `Range` asks for; an Arrow stream, CSV
    and JSON a batch at a time, as gzip where `Accept-Encoding` takes it.
    """
    form = best_media_type(request.headers.get("accept"), _SAMPLES_AS)
    return _varying(await _samples(services, sweep_id, request, form, partial))


@router.head("/{sweep_id}/results.parquet", include_in_schema=False)
@router.get("/{sweep_id}/results.parquet", response_class=Response, responses=file_responses(PARQUET))
async def get_results_file(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the samples as Parquet, whatever `Accept` says: a URL for pandas, polars and DuckDB.

    Whole or in the ranges that `Range` asks for; with `partial` always whole. Else as `/results`.
    """
    return await _samples(services, sweep_id, request, PARQUET, partial)


@router.head("/{sweep_id}/summary", include_in_schema=False)
@router.get("/{sweep_id}/summary", response_class=Response, responses=file_responses(*_SUMMARY_AS.values()))
async def get_summary(
    services: ServicesDep,
    sweep_id: str,
    request: Request,
    format: Literal["json", "csv", "parquet", "arrow"] | None = None,  # noqa: A002  (the public name)
    partial: bool = False,
) -> Response:
    """Return the summary: a row a steered cell, with its difference to the baseline. 409 before the sweep's end.

    `format` says how, and without it `Accept`; else it is JSON. `partial` is as for the samples; the JSON then has
    `partial`, with the cells that are in it and those that are missing.
    """
    form = (
        _SUMMARY_AS[format] if format else best_media_type(request.headers.get("accept"), tuple(_SUMMARY_AS.values()))
    )
    return _varying(await _summary(services, sweep_id, request, form, partial))


@router.head("/{sweep_id}/summary.parquet", include_in_schema=False)
@router.get("/{sweep_id}/summary.parquet", response_class=Response, responses=file_responses(PARQUET))
async def get_summary_file(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the summary as Parquet, whatever `Accept` says: a URL for pandas, polars and DuckDB.

    Whole or in the ranges that `Range` asks for; with `partial` always whole. Else as `/summary`.
    """
    return await _summary(services, sweep_id, request, PARQUET, partial)


async def _samples(services: Services, sweep_id: str, request: Request, form: str, partial: bool) -> Response:
    found = await asyncio.to_thread(_found, services, sweep_id, partial)
    try:
        file = await asyncio.to_thread(found.results.samples_file, found.sweep)
        return await _answer(found, file, request, form, sweep_id, lambda: table_chunks(file, form))
    except BaseException:
        found.delete()
        raise


async def _summary(services: Services, sweep_id: str, request: Request, form: str, partial: bool) -> Response:
    found = await asyncio.to_thread(_found, services, sweep_id, partial)

    def pieces() -> Iterator[bytes]:
        if form == ARROW:
            yield from table_chunks(file, form)
        else:
            yield _written(found.results, found.sweep, form)

    try:
        file = await asyncio.to_thread(found.results.summary_file, found.sweep)
        return await _answer(found, file, request, form, f"{sweep_id}-summary", pieces)
    except BaseException:
        found.delete()
        raise


async def _answer(
    found: SweepFiles,
    file: StoredFile,
    request: Request,
    form: str,
    name: str,
    pieces: Callable[[], Iterator[bytes]],
) -> Response:
    filename = f"{name}.{_ENDINGS[form]}"
    if form == PARQUET:
        # partial results are written anew for each request: ranges of several would be of different files
        in_ranges = not found.is_partial
        answer = await file_response(file, request, media_type=PARQUET, filename=filename, in_ranges=in_ranges)
    else:
        answer = await table_response(file, request, form=form, filename=filename, pieces=pieces)
    return found.marked(answer)


def _varying(answer: Response) -> Response:
    """Say of an answer that `Accept` chose its form."""
    answer.headers.setdefault("Vary", "Accept")
    return answer


def _written(results: Results, sweep: SweepRecord, form: str) -> bytes:
    from jobs.results.summary import summary_csv, summary_json  # here, since scipy comes with it

    if form == CSV:
        return summary_csv(results, sweep).encode()
    return json.dumps(summary_json(results, sweep), ensure_ascii=False).encode()


def _found(services: Services, sweep_id: str, partial: bool) -> SweepFiles:
    if partial:
        sweep = services.store.get_sweep(sweep_id)
        if sweep.state not in (SweepState.COMPLETED, SweepState.FAILED):
            return partial_results(services, sweep_id)
    return SweepFiles(sweep=_checked(services, sweep_id), results=services.results)


def _checked(services: Services, sweep_id: str) -> SweepRecord:
    """Return a sweep whose files hold what was published.

    Conflict where the sweep's state says that there is none, NotFound where it has expired. Where a file is lost or
    damaged the sweep's files are put together again, and Unavailable says so.
    """
    sweep = services.store.get_sweep(sweep_id)
    if sweep.expired_at is not None:
        raise NotFound(f"the results of sweep {sweep_id} have expired; send the sweep again to compute them anew")
    if sweep.state not in (SweepState.COMPLETED, SweepState.FAILED):
        raise Conflict(
            f"sweep {sweep_id} is {sweep.state.value}; its results are there once it is completed; "
            f"partial=true gives those there are"
        )
    if sweep.state is SweepState.FAILED and sweep.files is None:
        raise Conflict(f"sweep {sweep_id} has failed without results: {sweep.error}")
    try:
        services.results.check_sweep(sweep)
    except DamagedFile as error:
        services.store.reopen_sweep(sweep_id, error.message)
        services.wake()
        raise Unavailable(f"{error.message}; it is put together again, try again soon") from error
    return sweep


@dataclass(frozen=True, kw_only=True)
class SweepFiles:
    """A sweep whose files `results` has; of partial ones also their folder, and what the header says."""

    sweep: SweepRecord
    results: Results
    folder: Path | None = None
    included: str | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the files were made for one answer."""
        return self.folder is not None

    def marked(self, answer: Response) -> Response:
        """Return an answer made of these files, which marks partial ones and deletes them once it was sent."""
        if self.folder is None or self.included is None:
            return answer
        answer.headers[PARTIAL_HEADER] = self.included
        answer.headers["Cache-Control"] = "no-store"
        return _ThenDelete(answer, self.folder)

    def delete(self) -> None:
        """Delete the files, if they were made for one answer."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def partial_results(services: Services, sweep_id: str) -> SweepFiles:
    """Put the results of a sweep's completed cells together in a folder of their own; it may take its time."""
    from jobs.results.partial import write_partial  # here, since scipy comes with it

    sweep = services.store.get_sweep(sweep_id)
    if sweep.expired_at is not None:
        raise NotFound(f"the results of sweep {sweep_id} have expired; send the sweep again to compute them anew")
    folder = Path(tempfile.mkdtemp(prefix="ampsweep-partial-"))
    try:
        found = write_partial(services.store, services.results, sweep, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    included = f"{found.cells.included}/{found.cells.total}"
    return SweepFiles(sweep=found.sweep, results=found.results, folder=folder, included=included)


class _ThenDelete(Response):
    """Sends another answer, then deletes a folder, also where the client has hung up."""

    def __init__(self, answer: Response, folder: Path) -> None:
        super().__init__(status_code=answer.status_code)
        self.raw_headers = answer.raw_headers
        self._answer = answer
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
