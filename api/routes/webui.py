"""The files of the web page, which shows steered text side by side and sweeps as they run.

The page contains no data: it requests everything it shows from `/v1`, with the API key that its user enters. Its
content security policy allows its own scripts only, and requests to this server only.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from ampsweep.errors import NotFound
from ampsweep.hashing import cached_hash
from api.http.range_response import is_not_modified

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[1] / "webui"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
_FILES = {path.relative_to(_FOLDER).as_posix(): path for path in _FOLDER.rglob("*") if path.suffix in _TYPES}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

PAGE_PATHS = frozenset({"/", *(f"/page/{name}" for name in _FILES)})
"""The files that a browser loads before its user can enter a key. They need no key if the server is configured so."""


@router.get("/")
async def page(request: Request) -> Response:
    """Return the web page."""
    return _file("index.html", request)


@router.get("/page/{name:path}")
async def part(name: str, request: Request) -> Response:
    """Return a style sheet, script or image of the web page."""
    if name not in _FILES:
        raise NotFound(f"the web page has no file {name!r}")
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    """Return a file, or 304 if the browser has it: it asks for each of the modules at every visit."""
    path = _FILES[name]
    headers = {**_HEADERS, "ETag": f'"{cached_hash(path)[:32]}"'}
    if is_not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)
