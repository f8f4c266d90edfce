"""The results of a sweep: its samples and its summary, complete or of the cells that are completed so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ampsweep.errors import Conflict, DamagedFile, NotFound, Unavailable
from ampsweep.json_text import json_text
from api.http.negotiation import best_media_type
from api.http.range_response import file_response
from api.http.table_stream import ARROW, CSV, JSON, PARQUET, table_chunks, table_response
from api.openapi import file_responses
from api.partial_results import PartialFiles, is_partial
from api.services import Services, ServicesDep
from jobs.results.writer import Results
from jobs.storage.protocol import StoredFile
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState

_SAMPLES_TYPES = (PARQUET, ARROW, CSV, JSON)
_SUMMARY_TYPES = {"json": JSON, "csv": CSV, "parquet": PARQUET, "arrow": ARROW}
_EXTENSIONS = {PARQUET: "parquet", ARROW: "arrow", CSV: "csv", JSON: "json"}
PARTIAL_HEADER = "Ampsweep-Partial"
"""`included/total`: the number of cells in partial results, and of all cells of the sweep."""

router = APIRouter(prefix="/sweeps", tags=["results"])


@router.head("/{sweep_id}/results", include_in_schema=False)
@router.get("/{sweep_id}/results", response_class=Response, responses=file_responses(*_SAMPLES_TYPES))
async def get_results(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the samples of a sweep in the format that `Accept` asks for: Parquet (default), Arrow, CSV or JSON.

    Answers 409 until the sweep has ended. With `partial=true`, the samples of the cells completed so far are returned,
    also for a cancelled sweep; unless the sweep is completed, the header `Ampsweep-Partial` has the number of included
    cells and of all cells, as `included/total`.

    Parquet is sent whole or in the ranges that `Range` asks for. An Arrow stream, CSV and JSON are sent batch by batch,
    compressed with gzip if `Accept-Encoding` allows it.
    """
    media_type = best_media_type(request.headers.get("accept"), _SAMPLES_TYPES)
    return _vary_by_accept(await _samples(services, sweep_id, request, media_type, partial))


@router.head("/{sweep_id}/results.parquet", include_in_schema=False)
@router.get("/{sweep_id}/results.parquet", response_class=Response, responses=file_responses(PARQUET))
async def get_results_file(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the samples of a sweep as Parquet, regardless of `Accept`: a URL for pandas, polars and DuckDB.

    The file is sent whole or in the ranges that `Range` asks for; with `partial=true` it is always sent whole.
    Everything else is as for `/results`.
    """
    return await _samples(services, sweep_id, request, PARQUET, partial)


@router.head("/{sweep_id}/summary", include_in_schema=False)
@router.get("/{sweep_id}/summary", response_class=Response, responses=file_responses(*_SUMMARY_TYPES.values()))
async def get_summary(
    services: ServicesDep,
    sweep_id: str,
    request: Request,
    format: Literal["json", "csv", "parquet", "arrow"] | None = None,  # noqa: A002  (the public name)
    partial: bool = False,
) -> Response:
    """Return the summary of a sweep: one row for each steered cell, with its difference from the baseline.

    Answers 409 until the sweep has ended. The format is that of `format`, otherwise that of `Accept`, otherwise JSON.
    `partial=true` works as for the samples; the JSON then has an object `partial` with the included and the missing
    cells.
    """
    if format is None:
        media_type = best_media_type(request.headers.get("accept"), tuple(_SUMMARY_TYPES.values()))
    else:
        media_type = _SUMMARY_TYPES[format]
    return _vary_by_accept(await _summary(services, sweep_id, request, media_type, partial))


@router.head("/{sweep_id}/summary.parquet", include_in_schema=False)
@router.get("/{sweep_id}/summary.parquet", response_class=Response, responses=file_responses(PARQUET))
async def get_summary_file(services: ServicesDep, sweep_id: str, request: Request, partial: bool = False) -> Response:
    """Return the summary of a sweep as Parquet, regardless of `Accept`: a URL for pandas, polars and DuckDB.

    The file is sent whole or in the ranges that `Range` asks for; with `partial=true` it is always sent whole.
    Everything else is as for `/summary`.
    """
    return await _summary(services, sweep_id, request, PARQUET, partial)


async def _samples(services: Services, sweep_id: str, request: Request, media_type: str, partial: bool) -> Response:
    files = await _files(services, sweep_id, partial)
    try:
        file = await asyncio.to_thread(files.results.samples_file, files.sweep)
        return await _respond(files, file, request, media_type, sweep_id, lambda: table_chunks(file, media_type))
    except BaseException:
        await files.release()
        raise


async def _summary(services: Services, sweep_id: str, request: Request, media_type: str, partial: bool) -> Response:
    files = await _files(services, sweep_id, partial)

    def chunks() -> Iterator[bytes]:
        if media_type == ARROW:
            yield from table_chunks(file, media_type)
        else:
            yield _summary_text(files.results, files.sweep, media_type)

    try:
        file = await asyncio.to_thread(files.results.summary_file, files.sweep)
        return await _respond(files, file, request, media_type, f"{sweep_id}-summary", chunks)
    except BaseException:
        await files.release()
        raise


async def _respond(
    files: SweepFiles,
    file: StoredFile,
    request: Request,
    media_type: str,
    name: str,
    chunks: Callable[[], Iterator[bytes]],
) -> Response:
    filename = f"{name}.{_EXTENSIONS[media_type]}"
    if media_type == PARQUET:
        # partial results are written anew for each request, so ranges of two responses would be of different files
        in_ranges = not files.is_partial
        response = await file_response(file, request, media_type=PARQUET, filename=filename, in_ranges=in_ranges)
    else:
        response = await table_response(file, request, media_type=media_type, filename=filename, chunks=chunks)
    return files.mark(response)


def _vary_by_accept(response: Response) -> Response:
    """Declare that the format of a response depends on `Accept`."""
    response.headers.setdefault("Vary", "Accept")
    return response


def _summary_text(results: Results, sweep: SweepRecord, media_type: str) -> bytes:
    from jobs.results.summary import summary_csv, summary_json  # here, because it imports SciPy

    if media_type == CSV:
        return summary_csv(results, sweep).encode()
    return json_text(summary_json(results, sweep)).encode()


async def _files(services: Services, sweep_id: str, partial: bool) -> SweepFiles:
    """Return the published results of a sweep, or with `partial`, if there are none yet, those of completed cells."""
    if partial:
        sweep = await asyncio.to_thread(services.store.get_sweep, sweep_id)
        if is_partial(sweep):
            if sweep.expired_at is not None:
                raise _expired(sweep_id)
            written = await services.partial_writer.write(services.store, services.results, sweep)
            if written is not None:
                return SweepFiles(sweep=written.results.sweep, results=written.results.results, partial=written)
    sweep = await asyncio.to_thread(checked_sweep, services, sweep_id, has_partial=True)
    return SweepFiles(sweep=sweep, results=services.results)


def checked_sweep(services: Services, sweep_id: str, *, has_partial: bool = False) -> SweepRecord:
    """Return a sweep whose result files are intact.

    Args:
        services: The sweeps and their results.
        sweep_id: Id of the sweep.
        has_partial: Whether the request may ask for partial results, which the error then names as a remedy.

    Raises:
        Conflict: The sweep has no results in its current state.
        NotFound: The results have expired.
        Unavailable: A file is missing or damaged. The sweep is reopened, so that its files are assembled again.
    """
    sweep = services.store.get_sweep(sweep_id)
    if sweep.expired_at is not None:
        raise _expired(sweep_id)
    if is_partial(sweep):
        message = f"sweep {sweep_id} is {sweep.state.value} and has results only once it is completed"
        remedy = "; add partial=true for the results of the cells completed so far" if has_partial else ""
        raise Conflict(message + remedy)
    if sweep.state is SweepState.FAILED and sweep.files is None:
        raise Conflict(f"sweep {sweep_id} failed without results: {sweep.error}")
    try:
        services.results.check_sweep(sweep)
    except DamagedFile as error:
        services.store.reopen_sweep(sweep_id, error.message)
        services.wake()
        raise Unavailable(f"{error.message}; the results are being assembled again, retry soon") from error
    return sweep


def _expired(sweep_id: str) -> NotFound:
    return NotFound(f"the results of sweep {sweep_id} have expired; submit the sweep again to compute them anew")


@dataclass(frozen=True, kw_only=True)
class SweepFiles:
    """A sweep with its result files.

    Attributes:
        sweep: The sweep as its files describe it.
        results: Reads the files.
        partial: Partial results, which exist for a few responses only; None for published files.
    """

    sweep: SweepRecord
    results: Results
    partial: PartialFiles | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the files were written for this response."""
        return self.partial is not None

    def mark(self, response: Response) -> Response:
        """Return a response with these files. Partial ones get a header, and are released after they are sent."""
        if self.partial is None:
            return response
        cells = self.partial.results.cells
        response.headers[PARTIAL_HEADER] = f"{cells.included}/{cells.total}"
        response.headers["Cache-Control"] = "no-store"
        return _ResponseThenRelease(response, self.partial)

    async def release(self) -> None:
        """Delete partial files, unless another request needs them."""
        if self.partial is not None:
            await self.partial.release()


class _ResponseThenRelease(Response):
    """Sends another response, then releases partial results, even if the client has disconnected."""

    def __init__(self, response: Response, files: PartialFiles) -> None:
        super().__init__(status_code=response.status_code)
        self.raw_headers = response.raw_headers
        self._response = response
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._response(scope, receive, send)
        finally:
            await self._files.release()
