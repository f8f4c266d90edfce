"""Responses with a stored Parquet file converted to an Arrow stream, CSV or JSON, batch by batch in constant memory."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import closing

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from ampsweep.json_text import json_text
from api.http.negotiation import accepts_gzip
from api.http.range_response import is_not_modified
from jobs.storage.protocol import StoredFile

PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
JSON = "application/json"

_BATCH_ROWS = 8192
_JSON_ROWS = 512
"""Rows of one chunk of JSON."""
_END = object()


def table_chunks(file: StoredFile, media_type: str) -> Iterator[bytes]:
    """Yield the rows of a stored Parquet file in another format.

    Args:
        file: The Parquet file.
        media_type: ARROW, CSV (nested values are JSON text) or JSON (a list object with the rows in `data`).
    """
    with closing(file.open()) as source, pq.ParquetFile(source, page_checksum_verification=True) as table:
        batches = table.iter_batches(batch_size=_BATCH_ROWS)
        yield from _WRITERS[media_type](table.schema_arrow, batches)


async def table_response(
    file: StoredFile, request: Request, *, media_type: str, filename: str, chunks: Callable[[], Iterable[bytes]]
) -> Response:
    """Return the response to a GET or HEAD request for a converted file: 200, gzipped if the client accepts it, or 304.

    Args:
        file: The stored file, whose ETag is extended by the format.
        request: The request with its conditional headers.
        media_type: The media type of the converted file.
        filename: The name under which a browser saves the file.
        chunks: Converts the file. Each chunk is made in a thread.
    """
    info = await asyncio.to_thread(file.stat)
    gzip = accepts_gzip(request.headers.get("accept-encoding"))
    kind = media_type.rpartition("/")[2].rpartition(".")[2]
    etag = f'"{info.etag}-{kind}{"-gzip" if gzip else ""}"'
    headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding"}
    if is_not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    if gzip:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if request.method == "HEAD":  # a stream, because a plain Response would send Content-Length: 0
        return StreamingResponse(_in_threads(()), headers=headers, media_type=media_type)
    body = _gzipped(chunks()) if gzip else chunks()
    return StreamingResponse(_in_threads(body), headers=headers, media_type=media_type)


async def _in_threads(chunks: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Make each chunk in a thread, once the client has read the one before."""
    iterator = iter(chunks)
    while (chunk := await asyncio.to_thread(next, iterator, _END)) is not _END:
        assert isinstance(chunk, bytes)
        yield chunk


def _gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(level=6, wbits=31)  # 31: the gzip format with its largest window
    for chunk in chunks:
        if compressed := compressor.compress(chunk):
            yield compressed
    yield compressor.flush()


def _as_arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield _drain(sink)
    yield _drain(sink)


def _as_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    nested = [index for index, field in enumerate(schema) if pa.types.is_nested(field.type)]
    for index in nested:
        schema = schema.set(index, schema.field(index).with_type(pa.string()))
    sink = io.BytesIO()
    with pa_csv.CSVWriter(sink, schema) as writer:
        for batch in batches:
            columns = batch.columns
            for index in nested:
                columns[index] = pa.array(
                    [None if value is None else json_text(value) for value in columns[index].to_pylist()], pa.string()
                )
            writer.write_batch(pa.record_batch(columns, schema=schema))
            yield _drain(sink)
    yield _drain(sink)


def _as_json(_schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    separator = '{"object": "list", "data": ['
    for batch in batches:
        for start in range(0, batch.num_rows, _JSON_ROWS):
            rows = ", ".join(map(json_text, batch.slice(start, _JSON_ROWS).to_pylist()))
            yield f"{separator}{rows}".encode()
            separator = ", "
    yield ("]}" if separator == ", " else f"{separator}]}}").encode()


def _drain(sink: io.BytesIO) -> bytes:
    """Return the content of a buffer and empty it."""
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


_WRITERS: dict[str, Callable[[pa.Schema, Iterable[pa.RecordBatch]], Iterator[bytes]]] = {
    ARROW: _as_arrow,
    CSV: _as_csv,
    JSON: _as_json,
}
