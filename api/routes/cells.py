"""The cells of a sweep."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.http.json_body import json_response
from api.http.pagination import After, Limit, list_object
from api.services import ServicesDep
from jobs.store.records import CellRecord

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get("/{sweep_id}/cells", response_model=dict[str, Any])
async def list_cells(
    services: ServicesDep, sweep_id: str, after: After = None, limit: Limit = 100, failures: bool = False
) -> JSONResponse:
    """List the cells of a sweep in the order of its plan.

    With `failures=true` the list has only cells that failed or have failed samples. `error` is the reason why a cell
    failed, `sample_error` the reason why the first of its `failed_samples` failed.
    """

    def cells() -> dict[str, Any]:
        page = services.store.list_cells(sweep_id, after=after, limit=limit, only_failures=failures)
        return list_object([_cell_object(record) for record in page.data], has_more=page.has_more)

    return await json_response(cells)


def _cell_object(record: CellRecord) -> dict[str, Any]:
    cell = record.cell
    return {
        "id": record.id,
        "object": "sweep.cell",
        "status": record.state.value,
        "model": cell.model,
        "task": asdict(cell.task),
        "neurons": cell.neurons and cell.neurons.id,
        "intervention": None if cell.intervention is None else cell.intervention.to_dict(),
        "method": cell.method,
        "instruction": None if cell.instruction is None else asdict(cell.instruction),
        "adapter": None if cell.adapter is None else asdict(cell.adapter),
        "attempts": record.attempts,
        "error": record.error,
        "rows": record.rows,
        "samples": record.samples,
        "failed_samples": record.failed_samples,
        "sample_error": record.sample_error,
    }
