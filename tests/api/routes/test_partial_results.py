"""Partial results: the completed cells of a running or cancelled sweep, marked as partial."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.api.running_server import running_server
from tests.jobs.cluster import completed
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


def left_over(folder: Path) -> list[Path]:
    return list(folder.glob("ampsweep-partial-*"))


async def test_completed_cells_of_a_paused_and_a_cancelled_sweep_can_be_read(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        path = f"/v1/sweeps/{sweep['id']}"
        total = sweep["request_counts"]["total"]
        assert (await server.http.get(f"{path}/results?partial=true")).headers["Ampsweep-Partial"] == f"0/{total}"
        for lease in installation.store.lease_cells("test", models=["tiny"], limit=3, ttl=60):
            file = await server.pool.run_cell(lease.cell, lease.epoch)
            installation.store.report([completed(lease, file)])
        await server.http.post(f"{path}/pause")
        refused = await server.http.get(f"{path}/results")
        assert (refused.status_code, "partial=true" in refused.text) == (409, True)
        for step in ("pause", "cancel"):
            await server.http.post(f"{path}/{step}")
            samples = await server.http.get(f"{path}/results?partial=true")
            summary = await server.http.get(f"{path}/summary?partial=true")
            table = await server.http.get(f"{path}/summary?partial=true&format=parquet")
            assert samples.headers["Ampsweep-Partial"] == summary.headers["Ampsweep-Partial"] == f"3/{total}"
            files = pq.read_table(io.BytesIO(samples.content))
            partial = json.loads(files.schema.metadata[b"ampsweep.partial"])
            assert partial == summary.json()["partial"]
            assert (partial["included"], partial["missing"], partial["total"]) == (3, total - 3, total)
            assert len(set(files["cell_id"].to_pylist())) == 3
            assert pq.read_table(io.BytesIO(table.content)).num_rows == len(summary.json()["rows"]) > 0
    assert left_over(tmp_path) == []


async def test_complete_results_are_not_marked_partial(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
        whole, params = [
            await server.http.get(f"/v1/sweeps/{sweep_id}/results{query}") for query in ("", "?partial=true")
        ]
        summary = (await server.http.get(f"/v1/sweeps/{sweep_id}/summary?partial=true")).json()
    assert whole.content == params.content
    assert "Ampsweep-Partial" not in params.headers
    assert "partial" not in summary
    assert b"ampsweep.partial" not in pq.read_schema(io.BytesIO(whole.content)).metadata
