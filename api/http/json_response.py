"""Answers of JSON that may be long: made and written in a thread, so that the event loop serves others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import JSONResponse


async def json_answer(content: Callable[[], object]) -> JSONResponse:
    """Return the answer with what `content` returns; it is called in a thread."""
    return await asyncio.to_thread(lambda: JSONResponse(content()))
