"""The samples of a sweep in pages and with filters, for people to read. Programs download `/results`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import JSONResponse

from ampsweep.errors import InvalidRequest
from api.http.json_body import json_response
from api.http.pagination import After, Limit, list_object
from api.routes.results import checked_sweep
from api.services import ServicesDep
from jobs.results.samples.pages import SampleFilter, read_page

router = APIRouter(prefix="/sweeps", tags=["results"])

_Text = Annotated[str | None, Query(max_length=200)]
_Tokens = Annotated[str | None, Query(max_length=20_000)]
"""Long enough for a list of positions."""
_Number = Annotated[int | None, Query(ge=0, lt=2**31)]


def _filter(
    task: _Text = None,
    data_language: _Text = None,
    target_language: _Text = None,
    method: _Text = None,
    selection: _Text = None,
    op: _Text = None,
    patch: _Text = None,
    statistic: _Text = None,
    weights: _Text = None,
    layers: _Text = None,
    neuron_layer: _Number = None,
    neuron_index: _Number = None,
    tokens: _Tokens = None,
    when: _Text = None,
    part: _Text = None,
    mode: _Text = None,
    factor: float | None = None,
    correct: bool | None = None,
) -> SampleFilter:
    columns: dict[str, str | float | None] = {
        "task": task,
        "data_language": data_language,
        "target_language": target_language,
        "method": method,
        "selection": selection,
        "op": op,
        "patch": patch,
        "statistic": statistic,
        "weights": weights,
        "layers": layers,
        "neuron_layer": neuron_layer,
        "neuron_index": neuron_index,
        "tokens": tokens,
        "when": when,
        "part": part,
        "mode": mode,
        "factor": factor,
    }
    equal = {name: value for name, value in columns.items() if value is not None}
    return SampleFilter(equal=equal, correct=correct)


@router.get("/{sweep_id}/samples", response_model=dict[str, Any])
async def list_samples(
    services: ServicesDep,
    sweep_id: str,
    wanted: Annotated[SampleFilter, Depends(_filter)],
    after: After = None,
    limit: Limit = 20,
) -> JSONResponse:
    """List the samples of an ended sweep that match all filters, each with the unsteered sample of the same item.

    The filters are values of the columns of the samples; `none` matches null, such as `selection=none` for the target's
    own neurons. Without `method` the list has steered samples only. `baseline` is null for an item without an
    unsteered sample. Answers 409 until the sweep has ended.
    """
    if after is not None and not after.isdecimal():
        raise InvalidRequest(f"must be the id of a sample, a number; got {after!r}", param="after")
    sweep = await asyncio.to_thread(checked_sweep, services, sweep_id)
    file = await asyncio.to_thread(services.results.samples_file, sweep)

    def samples() -> dict[str, Any]:
        page = read_page(file, wanted, after=-1 if after is None else int(after), limit=limit)
        return list_object([{"object": "sweep.sample", **sample} for sample in page.samples], has_more=page.has_more)

    return await json_response(samples)
