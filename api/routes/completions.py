"""Text continued, steered or not, as a whole or as a stream, in the shape of OpenAI's completions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import TypeVar

from fastapi import APIRouter, Request
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.responses import JSONResponse, Response

from ampsweep.errors import AmpsweepError, EngineFailed
from api.completion_answer import CompletionAnswer
from api.completion_request import CompletionRequest, parse_completion
from api.document import body_of
from api.errors import error_body
from api.json_body import JsonBody
from api.services import Served
from api.streams import one_stream
from jobs.ports import CompletionChunk

T = TypeVar("T")
Chunks = AsyncGenerator[CompletionChunk]

CLIENT_GONE = 499
"""Nobody reads this status; it is for the access log."""

router = APIRouter(prefix="/completions", tags=["completions"])


@router.post("", openapi_extra=body_of(CompletionRequest), response_model=None, dependencies=[one_stream])
async def create_completion(served: Served, request: Request, body: JsonBody) -> Response:
    """Continue a prompt. With `stream: true` the pieces come as they are drawn, then `data: [DONE]`.

    A client that goes away ends its generation.
    """
    asked = parse_completion(body)
    served.limits.check_prompt(len(asked.prompt), param="prompt")
    served.limits.check_tokens(asked.max_tokens, param="max_tokens")
    answer = CompletionAnswer(asked)
    chunks = served.completions.stream(asked.to_call())
    if not asked.stream:
        whole = await _unless_gone(request, _collected(chunks))
        return Response(status_code=CLIENT_GONE) if whole is None else JSONResponse(answer.whole(whole))
    first = await _unless_gone(request, _first(chunks))  # what is wrong is said by a status, so before the stream
    if first is None:
        return Response(status_code=CLIENT_GONE)
    return EventSourceResponse(_events(answer, first, chunks), sep="\n", ping=15, send_timeout=served.send_timeout)


async def _events(answer: CompletionAnswer, first: CompletionChunk, chunks: Chunks) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(chunks):
        try:
            yield _event(answer.piece(first))
            async for chunk in chunks:
                yield _event(answer.piece(chunk))
        except AmpsweepError as error:
            yield _event(error_body(error))  # the status is sent already
            return
        if (usage := answer.closing_usage()) is not None:
            yield _event(usage)
        yield ServerSentEvent("[DONE]", sep="\n")


def _event(data: object) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), sep="\n")


async def _first(chunks: Chunks) -> CompletionChunk:
    async for chunk in chunks:
        return chunk
    raise EngineFailed("the engine answered nothing")


async def _collected(chunks: Chunks) -> list[CompletionChunk]:
    async with aclosing(chunks):
        collected = [chunk async for chunk in chunks]
    if not collected:
        raise EngineFailed("the engine answered nothing")
    return collected


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T | None:
    """Return what `work` returns, or cancel it and return None when the client goes away first."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        for task in (working, gone):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        await asyncio.wait([working])


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
