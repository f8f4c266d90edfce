"""What a sweep left: its samples and its summary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from ampsweep.errors import Conflict, DamagedFile, NotFound, Unavailable
from api.accepted import best_form
from api.document import answered_as
from api.services import Served, Services
from api.stored_file import answer_with
from api.table_forms import ARROW, CSV, JSON, PARQUET, answer_in_pieces, table_pieces
from jobs.results import Results
from jobs.storage.protocol import StoredFile
from jobs.store.records import SweepRecord
from jobs.store.states import SweepState

_SAMPLES_AS = (PARQUET, ARROW, CSV, JSON)
_SUMMARY_AS = {"json": JSON, "csv": CSV, "parquet": PARQUET, "arrow": ARROW}
_ENDINGS = {PARQUET: "parquet", ARROW: "arrow", CSV: "csv", JSON: "json"}

router = APIRouter(prefix="/sweeps", tags=["results"])


@router.get("/{sweep_id}/results", response_class=Response, responses=answered_as(*_SAMPLES_AS))
async def get_results(served: Served, sweep_id: str, request: Request) -> Response:
    """Return the samples, in the form that `Accept` asks for; 409 before the sweep's end.

    Parquet, unless another is liked better, comes whole or in the ranges that `Range` asks for; an Arrow stream, CSV
    and JSON a batch at a time, as gzip where `Accept-Encoding` takes it.
    """
    form = best_form(request.headers.get("accept"), _SAMPLES_AS)
    sweep = await asyncio.to_thread(_checked, served, sweep_id)
    file = await asyncio.to_thread(served.results.samples_file, sweep)
    return await _answer(file, request, form, sweep_id, lambda: table_pieces(file, form))


@router.get("/{sweep_id}/summary", response_class=Response, responses=answered_as(*_SUMMARY_AS.values()))
async def get_summary(
    served: Served,
    sweep_id: str,
    request: Request,
    format: Literal["json", "csv", "parquet", "arrow"] | None = None,  # noqa: A002  (the public name)
) -> Response:
    """Return the summary: a row a steered cell, with its difference to the baseline. 409 before the sweep's end.

    `format` says how, and without it `Accept`; else it is JSON.
    """
    form = _SUMMARY_AS[format] if format else best_form(request.headers.get("accept"), tuple(_SUMMARY_AS.values()))
    sweep = await asyncio.to_thread(_checked, served, sweep_id)
    file = await asyncio.to_thread(served.results.summary_file, sweep)

    def pieces() -> Iterator[bytes]:
        if form == ARROW:
            yield from table_pieces(file, form)
        else:
            yield _written(served.results, sweep, form)

    return await _answer(file, request, form, f"{sweep_id}-summary", pieces)


async def _answer(
    file: StoredFile, request: Request, form: str, name: str, pieces: Callable[[], Iterator[bytes]]
) -> Response:
    filename = f"{name}.{_ENDINGS[form]}"
    if form == PARQUET:
        answer = await answer_with(file, request, media_type=PARQUET, filename=filename)
        answer.headers["Vary"] = "Accept"
        return answer
    return await answer_in_pieces(file, request, form=form, filename=filename, pieces=pieces)


def _written(results: Results, sweep: SweepRecord, form: str) -> bytes:
    from jobs.summary import summary_csv, summary_json  # here, since scipy comes with it

    if form == CSV:
        return summary_csv(results, sweep).encode()
    return json.dumps(summary_json(results, sweep), ensure_ascii=False).encode()


def _checked(served: Services, sweep_id: str) -> SweepRecord:
    """Return a sweep whose files hold what was published.

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
    return sweep
