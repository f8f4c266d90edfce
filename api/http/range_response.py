"""Responses with a stored file, or with the byte range that the client asked for, from a folder or an object store.

Follows RFC 9110: `Range` with one range (requests for several ranges get the whole file), `If-Range`, `If-None-Match`
and HEAD.
The file is read in chunks, and only for as long as the client reads the response.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import formatdate

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from ampsweep.errors import shortened
from jobs.storage.protocol import FileInfo, StoredFile

_RANGE = re.compile(r"bytes=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*", re.IGNORECASE)
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _ByteRange:
    """The bytes from `start` up to, but excluding, `end`; `partial` if the client asked for a range."""

    start: int
    end: int
    partial: bool = True


def is_not_modified(request: Request, etag: str) -> bool:
    """Return whether a client has the content with an `ETag` already, by its `If-None-Match` (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return "*" in tags or etag in tags


async def file_response(
    file: StoredFile, request: Request, *, media_type: str, filename: str, in_ranges: bool = True
) -> Response:
    """Return the response to a GET or HEAD request for a stored file: 200, 206 or 304.

    Args:
        file: The stored file.
        request: The request with its conditional and range headers.
        media_type: The media type of the file.
        filename: The name under which a browser saves the file.
        in_ranges: Whether to serve ranges; without it the whole file is sent.

    Raises:
        NotFound: The file is missing.
        HTTPException: The requested range lies outside the file (416).
    """
    info = await asyncio.to_thread(file.stat)
    headers = {
        "ETag": f'"{info.etag}"',
        "Last-Modified": formatdate(info.modified, usegmt=True),
        "Accept-Ranges": "bytes" if in_ranges else "none",
    }
    if is_not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    ranges = in_ranges and request.method != "HEAD"  # ranges are defined for GET only (RFC 9110, 14.2)
    span = _requested_range(request, info, headers) if ranges else _ByteRange(0, info.size, partial=False)
    if span is None:
        detail = f"the range {shortened(request.headers['range'])} lies outside the file, which has {info.size} bytes"
        raise HTTPException(416, detail, {**headers, "Content-Range": f"bytes */{info.size}"})
    headers["Content-Length"] = str(span.end - span.start)
    headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{info.size}"
    return StreamingResponse(
        _chunks(file, span), status_code=206 if span.partial else 200, headers=headers, media_type=media_type
    )


def _requested_range(request: Request, info: FileInfo, headers: dict[str, str]) -> _ByteRange | None:
    """Return the bytes to send; None if the requested range lies outside the file."""
    whole = _ByteRange(0, info.size, partial=False)
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.headers.get("if-range", headers["ETag"]) not in (
        headers["ETag"],
        headers["Last-Modified"],
    ):
        return whole
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, info.size - int(suffix)), info.size
    else:
        start, end = int(first), min(int(last) + 1 if last else info.size, info.size)
        if last and int(last) < int(first):
            return whole  # an invalid range is ignored
    return _ByteRange(start, end) if start < end else None


async def _chunks(file: StoredFile, span: _ByteRange) -> AsyncGenerator[bytes]:
    source = await asyncio.to_thread(file.open)
    try:
        offset = span.start
        while offset < span.end:
            chunk: bytes = await asyncio.to_thread(source.read_at, min(_CHUNK_BYTES, span.end - offset), offset)
            if not chunk:
                raise OSError(f"{file.name} has {offset} bytes, but {span.end} were expected")
            yield chunk
            offset += len(chunk)
    finally:
        source.close()
