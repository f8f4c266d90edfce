from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from tests.api.served import serving
from tests.worker.house import House

pytestmark = pytest.mark.anyio


async def test_results_and_summary_are_a_conflict_before_the_end(house: House) -> None:
    async with serving(house, working=False) as server:
        sweep = await server.submit()
        for noun in ("results", "summary", "summary?format=csv"):
            answer = await server.http.get(f"/v1/sweeps/{sweep['id']}/{noun}")
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] == "conflict"
            assert "in_progress" in answer.json()["error"]["message"]


async def test_results_are_parquet_whole_or_in_ranges(house: House) -> None:
    async with serving(house) as server:
        path = f"/v1/sweeps/{await server.done()}/results"
        whole = await server.http.get(path)
        part = await server.http.get(path, headers={"Range": "bytes=0-3"})
        beyond = await server.http.get(path, headers={"Range": f"bytes={len(whole.content)}-"})
    assert pq.read_table(io.BytesIO(whole.content)).num_rows > 0
    assert whole.headers["etag"]
    assert (part.status_code, part.content) == (206, b"PAR1")
    assert beyond.status_code == 416


async def test_the_summary_comes_in_three_forms(house: House) -> None:
    async with serving(house) as server:
        path = f"/v1/sweeps/{await server.done()}/summary"
        as_json = (await server.http.get(path)).json()
        as_csv = await server.http.get(path, params={"format": "csv"})
        as_parquet = await server.http.get(path, params={"format": "parquet"})
        neither = await server.http.get(path, params={"format": "xml"})
    table = pq.read_table(io.BytesIO(as_parquet.content))
    assert len(as_json["rows"]) == table.num_rows == len(as_csv.text.strip().splitlines()) - 1
    assert {row["target_language"] for row in as_json["rows"]} == {"fr", "tr"}
    assert as_json["best_factors"]
    assert neither.status_code == 422
    assert neither.json()["error"]["param"] == "format"
