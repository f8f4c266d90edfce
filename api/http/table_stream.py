"""A Parquet file as something else: an Arrow stream, CSV or JSON, a batch at a time, so that memory stays flat."""

from __future__ import annotations

import asyncio
import io
import json
import math
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.http.negotiation import accepts_gzip
from jobs.storage.protocol import StoredFile

PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
JSON = "application/json"

_ROWS = 8192
_END = object()


def table_chunks(file: StoredFile, form: str) -> Iterator[bytes]:
    """Yield the rows of a stored Parquet file as `form`: ARROW, CSV (lists as JSON text) or JSON (`data`, a list)."""
    with closing(file.open()) as source, pq.ParquetFile(source, page_checksum_verification=True) as found:
        batches = found.iter_batches(batch_size=_ROWS)
        yield from _WRITERS[form](found.schema_arrow, batches)


async def table_response(
    file: StoredFile, request: Request, *, form: str, filename: str, pieces: Callable[[], Iterable[bytes]]
) -> Response:
    """Answer a GET or HEAD with what `pieces` makes of a file, as gzip where the client takes it, or with 304."""
    stored = await asyncio.to_thread(file.stat)
    gzip = accepts_gzip(request.headers.get("accept-encoding"))
    kind = form.rpartition("/")[2].rpartition(".")[2]
    etag = f'"{stored.etag}-{kind}{"-gzip" if gzip else ""}"'
    headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(status_code=304, headers=headers)
    if gzip:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if request.method == "HEAD":  # streams, since a plain Response would say that the content has length 0
        return StreamingResponse(_in_threads(()), headers=headers, media_type=form)
    made = pieces()
    return StreamingResponse(_in_threads(_gzipped(made) if gzip else made), headers=headers, media_type=form)


async def _in_threads(pieces: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Make each piece in a thread, when the client has read the one before."""
    left = iter(pieces)
    while (piece := await asyncio.to_thread(next, left, _END)) is not _END:
        assert isinstance(piece, bytes)
        yield piece


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packing = zlib.compressobj(level=6, wbits=31)
    for piece in pieces:
        if packed := packing.compress(piece):
            yield packed
    yield packing.flush()


def _as_arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield _drained(sink)
    yield _drained(sink)


def _as_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    nested = [place for place, field in enumerate(schema) if pa.types.is_nested(field.type)]
    for place in nested:
        schema = schema.set(place, schema.field(place).with_type(pa.string()))
    sink = io.BytesIO()
    with pa_csv.CSVWriter(sink, schema) as writer:
        for batch in batches:
            columns = batch.columns
            for place in nested:
                columns[place] = pa.array(
                    [None if value is None else _json(value) for value in columns[place].to_pylist()], pa.string()
                )
            writer.write_batch(pa.record_batch(columns, schema=schema))
            yield _drained(sink)
    yield _drained(sink)


def _as_json(_schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    before = '{"object": "list", "data": ['
    for batch in batches:
        for start in range(0, batch.num_rows, 512):
            rows = ", ".join(map(_json, batch.slice(start, 512).to_pylist()))
            yield f"{before}{rows}".encode()
            before = ", "
    yield ("]}" if before == ", " else f"{before}]}}").encode()


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    """Return a value without the numbers that JSON has not: they become null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drained(sink: io.BytesIO) -> bytes:
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece


_WRITERS: dict[str, Callable[[pa.Schema, Iterable[pa.RecordBatch]], Iterator[bytes]]] = {
    ARROW: _as_arrow,
    CSV: _as_csv,
    JSON: _as_json,
}
