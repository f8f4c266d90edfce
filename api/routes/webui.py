"""The web page: steered text side by side, sweeps as they run.

It holds no data and asks `/v1` for all that it shows, with the key that its user gives it. No script but its own runs
in it, and it speaks to no other server.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from ampsweep.errors import NotFound

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[1] / "webui"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
_FILES = {path.name: path for path in _FOLDER.iterdir() if path.suffix in _TYPES}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

PAGE_PATHS = frozenset({"/", *(f"/page/{name}" for name in _FILES)})
"""What a browser loads before its user can give a key; open to anybody only where a setting says so."""


@router.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> FileResponse:
    """Return a style sheet, script or picture of the page."""
    if name not in _FILES:
        raise NotFound(f"the page has no part {name!r}")
    return _file(name)


def _file(name: str) -> FileResponse:
    path = _FILES[name]
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_HEADERS)
