from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.http.table_stream import ARROW, CSV, JSON, PARQUET, table_chunks
from jobs.results.retention import clean_up
from jobs.storage.local import LocalStorage
from jobs.storage.protocol import StoredFile
from tests.api.running_server import running_server
from tests.object_store import IN_A_BUCKET, give_credentials, object_store
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A completed sweep, and a client of its server."""

    http: httpx.AsyncClient
    sweep_id: str

    def url(self, noun: str) -> str:
        return f"/v1/sweeps/{self.sweep_id}/{noun}"


@pytest.fixture(scope="module", params=["folder", IN_A_BUCKET])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server with its results in a folder or in an object store."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "folder":
        yield Installation.build(folder)
        return
    with pytest.MonkeyPatch.context() as patch, object_store() as store:
        give_credentials(patch)
        store.bucket("ampsweep")
        yield Installation.build(folder, published=store.address("ampsweep", "tests"))


@pytest.fixture(scope="module")
async def finished(published: Installation) -> AsyncIterator[Finished]:
    """A completed sweep, which the tests only read."""
    async with running_server(published) as server:
        yield Finished(http=server.http, sweep_id=await server.done())


async def test_results_and_summary_are_a_conflict_before_the_end(published: Installation, tmp_path: Path) -> None:
    idle = Installation.build(tmp_path, published=published.published)
    async with running_server(idle, working=False) as server:
        sweep = await server.submit()
        for noun in ("results", "summary", "summary?format=csv"):
            answer = await server.http.get(f"/v1/sweeps/{sweep['id']}/{noun}")
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] == "conflict"
            assert "in_progress" in answer.json()["error"]["message"]


async def test_results_are_parquet_whole_or_in_ranges(finished: Finished) -> None:
    path = finished.url("results")
    whole = await finished.http.get(path)
    part = await finished.http.get(path, headers={"Range": "bytes=0-3"})
    beyond = await finished.http.get(path, headers={"Range": f"bytes={len(whole.content)}-"})
    assert pq.read_table(io.BytesIO(whole.content)).num_rows > 0
    assert whole.headers["etag"]
    assert (part.status_code, part.content) == (206, b"PAR1")
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    assert beyond.headers["etag"] == whole.headers["etag"]
    assert beyond.json()["error"]["code"] == "range_not_satisfiable"
    assert "lies outside the file" in beyond.json()["error"]["message"]


async def test_a_range_returns_exactly_its_bytes(finished: Finished) -> None:
    path = finished.url("results")
    whole = (await finished.http.get(path)).content
    ranges = {"bytes=4-9": (4, 10), "bytes=10-": (10, None), "bytes=-7": (-7, None), "bytes=2-999999999": (2, None)}
    for range_header, (start, end) in ranges.items():
        part = await finished.http.get(path, headers={"Range": range_header})
        assert (part.status_code, part.content) == (206, whole[start:end]), range_header
        first = start % len(whole)
        last = first + len(part.content) - 1
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
        assert int(part.headers["content-length"]) == len(part.content)


async def test_anything_but_a_single_range_returns_the_whole_file(finished: Finished) -> None:
    path = finished.url("results")
    whole = await finished.http.get(path)
    for range_header in ("bytes=9-4", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b"):
        answer = await finished.http.get(path, headers={"Range": range_header})
        assert (answer.status_code, answer.content) == (200, whole.content), range_header
        assert "content-range" not in answer.headers


async def test_unchanged_files_are_not_sent_again(finished: Finished) -> None:
    path = finished.url("results")
    etag = (await finished.http.get(path)).headers["etag"]
    unchanged = await finished.http.get(path, headers={"If-None-Match": f'"other", {etag}'})
    changed = await finished.http.get(path, headers={"If-None-Match": '"other"'})
    same = await finished.http.get(path, headers={"Range": "bytes=0-3", "If-Range": etag})
    other = await finished.http.get(path, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200
    assert (same.status_code, same.content) == (206, b"PAR1")
    assert other.status_code == 200


async def test_the_summary_is_available_in_three_formats(finished: Finished) -> None:
    path = finished.url("summary")
    as_json = (await finished.http.get(path)).json()
    as_csv = await finished.http.get(path, params={"format": "csv"})
    as_parquet = await finished.http.get(path, params={"format": "parquet"})
    neither = await finished.http.get(path, params={"format": "xml"})
    table = pq.read_table(io.BytesIO(as_parquet.content))
    assert len(as_json["rows"]) == table.num_rows == len(as_csv.text.strip().splitlines()) - 1
    assert {row["target_language"] for row in as_json["rows"]} == {"fr", "tr"}
    assert as_json["best_factors"]
    assert neither.status_code == 422
    assert neither.json()["error"]["param"] == "format"


async def test_samples_are_sent_in_the_accepted_format(finished: Finished) -> None:
    path = finished.url("results")
    answers = {
        form: await finished.http.get(path, headers={"Accept": form, "Accept-Encoding": "identity"})
        for form in (PARQUET, ARROW, CSV, JSON)
    }
    table = pq.read_table(io.BytesIO(answers[PARQUET].content))
    rows = table.to_pylist()
    assert len(rows) > 1
    for form, answer in answers.items():
        assert answer.headers["content-type"].partition(";")[0] == form
    assert (
        pa.ipc.open_stream(answers[ARROW].content)
        .read_all()
        .replace_schema_metadata()
        .equals(table.replace_schema_metadata())
    )
    assert answers[JSON].json() == {"object": "list", "data": rows}
    from_csv = list(csv.DictReader(io.StringIO(answers[CSV].text)))
    assert [row["doc_id"] for row in from_csv] == [row["doc_id"] for row in rows]
    assert [json.loads(row["logprobs"]) for row in from_csv] == [row["logprobs"] for row in rows]
    assert len({answer.headers["etag"] for answer in answers.values()}) == 4


@pytest.mark.parametrize("noun", ["results", "summary"])
@pytest.mark.parametrize("form", [ARROW, CSV, JSON])
async def test_other_formats_are_gzipped_and_sent_only_if_changed(finished: Finished, noun: str, form: str) -> None:
    path = finished.url(noun)
    plain = await finished.http.get(path, headers={"Accept": form, "Accept-Encoding": "identity"})
    packed = await finished.http.get(path, headers={"Accept": form, "Accept-Encoding": "br, gzip;q=0.5"})
    refused = await finished.http.get(path, headers={"Accept": form, "Accept-Encoding": "gzip;q=0"})
    etag = packed.headers["etag"]
    unchanged = await finished.http.get(path, headers={"Accept": form, "If-None-Match": f'"x", W/{etag}'})
    plainly = await finished.http.get(
        path, headers={"Accept": form, "If-None-Match": etag, "Accept-Encoding": "identity"}
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in {**plain.headers, **refused.headers}
    assert packed.content == plain.content == refused.content
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert plainly.status_code == 200, "another encoding is another answer"
    assert "Accept-Encoding" in plain.headers["vary"]


async def test_an_unavailable_format_is_refused(finished: Finished) -> None:
    path = finished.url("results")
    refused = await finished.http.get(path, headers={"Accept": "application/xml"})
    any_form = await finished.http.get(path, headers={"Accept": "text/html, */*;q=0.1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (406, "not_acceptable")
    assert any_form.headers["content-type"] == PARQUET


async def test_a_range_is_sent_only_if_the_file_is_unchanged(finished: Finished) -> None:
    path = finished.url("results")
    etag = (await finished.http.get(path)).headers["etag"]
    same = await finished.http.get(path, headers={"Range": "bytes=0-3", "If-Range": etag})
    other = await finished.http.get(path, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    unchanged = await finished.http.get(path, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (206, b"PAR1")
    assert other.status_code == 200
    assert unchanged.status_code == 304


async def test_nan_and_infinity_are_null_in_json(tmp_path: Path) -> None:
    table = pa.table({"a": [1.5, math.inf, math.nan], "b": [[1.0], [math.nan], None]})
    pq.write_table(table, tmp_path / "t.parquet")
    file = StoredFile(storage=LocalStorage(tmp_path), name="t.parquet")
    rows = json.loads(b"".join(table_chunks(file, JSON)), parse_constant=pytest.fail)["data"]
    assert rows == [{"a": 1.5, "b": [1.0]}, {"a": None, "b": [None]}, {"a": None, "b": None}]
    pq.write_table(table.slice(0, 0), tmp_path / "t.parquet")
    assert json.loads(b"".join(table_chunks(file, JSON)))["data"] == []


@pytest.mark.parametrize("damage", ["lost", "changed", "cells too"])
async def test_damaged_results_are_assembled_again_and_never_served(tmp_path: Path, damage: str) -> None:
    installation = Installation.build(tmp_path)
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2.0]}
    async with running_server(installation) as server:
        sweep_id = await server.done(interventions=interventions)
        url = f"/v1/sweeps/{sweep_id}/results"
        whole = (await server.http.get(url)).content
        path = tmp_path / "results" / "sweeps" / sweep_id / "results.1.parquet"
        path.unlink()
        if damage == "changed":
            path.write_bytes(whole[:-1] + b"?")
        if damage == "cells too":
            for cell in (tmp_path / "results" / "cells").iterdir():
                cell.write_bytes(b"?")
        refused = await server.http.get(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert "assembled again" in refused.json()["error"]["message"]
        await server.ended(sweep_id)
        again = await server.http.get(url)
        assert again.status_code == 200
        assert pq.read_table(io.BytesIO(again.content)).equals(pq.read_table(io.BytesIO(whole)))


async def test_expired_results_are_not_found(tmp_path: Path) -> None:
    installation = Installation.build(tmp_path)
    async with running_server(installation) as server:
        sweep_id = await server.done()
        ended = installation.store.get_sweep(sweep_id).ended_at
        assert ended is not None
        assert clean_up(installation.store, installation.results, unfinished_after=60, ended_before=ended + 1) > 0
        gone = await server.http.get(f"/v1/sweeps/{sweep_id}/results")
        assert gone.status_code == 404
        assert "expired" in gone.json()["error"]["message"]
        assert (await server.http.get(f"/v1/sweeps/{sweep_id}")).json()["expired_at"] is not None
        again = await server.submit()
        assert again["request_counts"]["reused"] == 0
