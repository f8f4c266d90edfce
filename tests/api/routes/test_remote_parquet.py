"""The Parquet files of a sweep by URL, as pandas, polars, fsspec and DuckDB read them: in ranges, without `Accept`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import fsspec
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep import Client
from api.auth.api_keys import KeyScope
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A completed sweep on a server: the URLs of its files and their content."""

    samples_url: str
    summary_url: str
    samples: pa.Table
    summary: pa.Table


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with server_in_thread(Installation.build(tmp_path_factory.mktemp("home"))) as (url, _), Client(url) as client:
        sweep = client.wait(client.submit(SPEC).id)
        yield Remote(
            samples_url=f"{url}/v1/sweeps/{sweep.id}/results.parquet",
            summary_url=f"{url}/v1/sweeps/{sweep.id}/summary.parquet",
            samples=client.results(sweep.id),
            summary=client.summary(sweep.id, as_="arrow"),
        )


def test_pandas_reads_both_by_url(remote: Remote) -> None:
    summary = pd.read_parquet(remote.summary_url)
    assert summary["value"].tolist() == remote.summary["value"].to_pylist()
    samples = pd.read_parquet(remote.samples_url, columns=["doc_id"])
    assert samples["doc_id"].tolist() == remote.samples["doc_id"].to_pylist()
    unnamed = pd.read_parquet(remote.samples_url.removesuffix(".parquet"))
    assert len(unnamed) == remote.samples.num_rows


def test_polars_scans_and_reads_both_by_url(remote: Remote) -> None:
    values = pl.scan_parquet(remote.summary_url).select("value").collect()
    assert values["value"].to_list() == remote.summary["value"].to_pylist()
    assert pl.read_parquet(remote.samples_url).height == remote.samples.num_rows


def test_arrow_reads_ranges_over_fsspec(remote: Remote) -> None:
    with fsspec.open(remote.samples_url, "rb") as file:
        result = pq.ParquetFile(file).read(columns=["cell_id", "doc_id"])
    assert result.equals(remote.samples.select(["cell_id", "doc_id"]).replace_schema_metadata(result.schema.metadata))


def test_duckdb_reads_both_by_url(remote: Remote) -> None:
    with duckdb.connect() as database:
        try:
            database.load_extension("httpfs")
        except duckdb.Error:
            pytest.skip("DuckDB's httpfs is not installed")
        for url, table in ((remote.summary_url, remote.summary), (remote.samples_url, remote.samples)):
            assert database.sql(f"SELECT count(*) FROM '{url}'").fetchall() == [(table.num_rows,)]


def test_head_has_the_same_headers_as_get(remote: Remote) -> None:
    for url in (remote.samples_url, remote.summary_url, remote.samples_url.removesuffix(".parquet")):
        whole, head = httpx.get(url), httpx.head(url, headers={"Range": "bytes=0-3"})
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges"):
            assert head.headers[name] == whole.headers[name], (url, name)
        assert int(head.headers["content-length"]) == len(whole.content)
    as_json = httpx.head(remote.summary_url.removesuffix(".parquet"))
    assert (as_json.status_code, as_json.headers["content-type"], as_json.content) == (200, "application/json", b"")
    missing = httpx.head(f"{remote.summary_url.partition('sweep_')[0]}sweep_none/summary.parquet")
    assert missing.status_code == 404


def test_query_parameters_of_head_and_of_the_files_are_checked(remote: Remote) -> None:
    assert httpx.head(remote.summary_url, params={"partial": "true"}).status_code == 200
    assert httpx.head(remote.summary_url, params={"wat": "1"}).status_code == 422
    refused = httpx.get(remote.summary_url, params={"format": "csv"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "format")


def test_pandas_and_fsspec_read_with_a_key(tmp_path: Path) -> None:
    with server_in_thread(Installation.build(tmp_path)) as (url, server):
        _, headers = server.key(KeyScope.ADMIN)
        with Client(url, api_key=headers["Authorization"].removeprefix("Bearer ")) as client:
            sweep = client.wait(client.submit(SPEC).id)
            rows = client.summary(sweep.id)["rows"]
        file = f"{url}/v1/sweeps/{sweep.id}/summary.parquet"
        assert httpx.head(file).status_code == 401
        assert len(pd.read_parquet(file, storage_options=headers)) == len(rows)
        with fsspec.open(file, "rb", headers=headers) as opened:
            assert pl.read_parquet(opened).height == len(rows)


def test_partial_results_are_never_sent_in_ranges(tmp_path: Path) -> None:
    with server_in_thread(Installation.build(tmp_path), working=False) as (url, _), Client(url) as client:
        sweep = client.submit(SPEC)
        for name in ("results", "results.parquet", "summary.parquet"):
            file = f"{url}/v1/sweeps/{sweep.id}/{name}?partial=true"
            if name != "results":
                assert httpx.get(file.partition("?")[0]).status_code == 409
                assert len(pd.read_parquet(file)) == 0
            part = httpx.get(file, headers={"Range": "bytes=0-3"}, params={"partial": "true"})
            assert (part.status_code, part.headers["accept-ranges"]) == (200, "none")
            assert part.content.endswith(b"PAR1")
            assert httpx.head(file).headers["ampsweep-partial"] == part.headers["ampsweep-partial"]
