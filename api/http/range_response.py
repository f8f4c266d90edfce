"""A published file as an answer: whole, or the one range that was asked for, from wherever it lies.

The rules are those of RFC 9110: `Range` with one range (several are answered with the whole file), `If-Range`,
`If-None-Match`; HEAD. The file is read piece by piece, and no longer than the client reads.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import formatdate

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from jobs.storage.protocol import FileInfo, StoredFile

_RANGE = re.compile(r"bytes=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*", re.IGNORECASE)
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class _Part:
    """The bytes from `start` up to `end`, which is not in it; `partial` where the client asked for a range."""

    start: int
    end: int
    partial: bool = True


async def file_response(
    file: StoredFile, request: Request, *, media_type: str, filename: str, in_ranges: bool = True
) -> Response:
    """Answer a GET or HEAD with a stored file: 200, 206, 304 or 416. NotFound where it is lost.

    Without `in_ranges` it is sent whole whatever is asked for.
    """
    stored = await asyncio.to_thread(file.stat)
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes" if in_ranges else "none",
    }
    if _known(request.headers.get("if-none-match"), stored):
        return Response(status_code=304, headers=headers)
    ranges = in_ranges and request.method != "HEAD"  # a range is defined for GET alone (RFC 9110, 14.2)
    part = _part(request, stored, headers) if ranges else _Part(0, stored.size, partial=False)
    if part is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{stored.size}"})
    headers["Content-Length"] = str(part.end - part.start)
    headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    if part.partial:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{stored.size}"
    return StreamingResponse(
        _pieces(file, part), status_code=206 if part.partial else 200, headers=headers, media_type=media_type
    )


def _known(if_none_match: str | None, stored: FileInfo) -> bool:
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or f'"{stored.etag}"' in tags


def _part(request: Request, stored: FileInfo, headers: dict[str, str]) -> _Part | None:
    """Return what to send; None where the range has nothing in common with the file."""
    whole = _Part(0, stored.size, partial=False)
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", headers["ETag"]) not in (
        headers["ETag"],
        headers["Last-Modified"],
    ):
        return whole
    first, last, suffix = asked.groups()
    if suffix is not None:
        start, end = max(0, stored.size - int(suffix)), stored.size
    else:
        start, end = int(first), min(int(last) + 1 if last else stored.size, stored.size)
        if last and int(last) < int(first):
            return whole  # not a range at all
    return _Part(start, end) if start < end else None


async def _pieces(file: StoredFile, part: _Part) -> AsyncGenerator[bytes]:
    source = await asyncio.to_thread(file.open)
    try:
        at = part.start
        while at < part.end:
            piece: bytes = await asyncio.to_thread(source.read_at, min(_PIECE, part.end - at), at)
            if not piece:
                raise OSError(f"{file.name} ends at {at}, before {part.end}")
            yield piece
            at += len(piece)
    finally:
        source.close()
