"""Failed cells and samples are counted and listed, and are never used as results."""

from __future__ import annotations

import pytest

from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio
TASKS = [{"name": "lss", "languages": ["en", "fr"], "limit": 12}]


async def test_failed_samples_are_counted_with_the_first_reason(installation: Installation) -> None:
    async with running_server(installation, max_model_len=55) as server:
        sweep_id = await server.done(tasks=TASKS)
        sweep = (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()
        listed = (await server.http.get("/v1/sweeps")).json()["data"]
        cells = (await server.http.get(f"/v1/sweeps/{sweep_id}/cells")).json()["data"]
        failing = (await server.http.get(f"/v1/sweeps/{sweep_id}/cells?failures=true")).json()["data"]
    assert listed == [sweep], "the list has the errors with their first reason too"
    assert "55" in sweep["errors"][0]["first_reason"]
    assert sweep["request_counts"]["failed"] == 0
    assert 0 < sweep["failed_samples"] < sweep["samples"]
    assert sum(cell["failed_samples"] for cell in cells) == sweep["failed_samples"]
    assert failing == [cell for cell in cells if cell["failed_samples"]]
    assert all("55" in cell["sample_error"] for cell in failing)
    assert [cell["sample_error"] for cell in cells if not cell["failed_samples"]] == [None] * (
        len(cells) - len(failing)
    )


async def test_cells_without_any_answer_are_computed_anew_once_their_cause_is_gone(installation: Installation) -> None:
    async with running_server(installation, max_model_len=5) as server:
        sweep_id = await server.done(tasks=TASKS)
        sweep = (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()
    assert sweep["failed_samples"] == sweep["samples"] > 0
    async with running_server(installation) as server:
        again_id = await server.done(tasks=TASKS)
        again = (await server.http.get(f"/v1/sweeps/{again_id}")).json()
    assert (again["request_counts"]["reused"], again["failed_samples"]) == (0, 0)
