"""An answer that is drawn while its client waits: as a whole, or as a stream of events, and no longer than it waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fastapi import Request
from sse_starlette.event import ServerSentEvent
from starlette.responses import Response

from ampsweep.domain.chunk import Chunk
from ampsweep.errors import AmpsweepError, EngineFailed
from api.errors import error_body
from api.http.event_stream import EventStream
from api.http.json_body import json_response
from api.openai.responses import Answer
from api.services import Services
from jobs.execution import CompletionCall

T = TypeVar("T")
Chunks = AsyncGenerator[Chunk]

CLIENT_GONE = 499
"""Nobody reads this status; it is for the access log."""
_WAITING = 64
"""Chunks that are drawn ahead of a client that reads slowly."""


async def generated(
    services: Services, request: Request, calls: Sequence[CompletionCall], answer: Answer, *, stream: bool
) -> Response:
    """Return the answer to a request's calls, one a prompt. A client that goes away ends its generation."""
    streams = [services.completions.stream(call) for call in calls]
    chunks = streams[0] if len(streams) == 1 else numbered(streams, answers=calls[0].sampling.n)
    if not stream:
        whole = await _unless_gone(request, _collected(chunks))
        return Response(status_code=CLIENT_GONE) if whole is None else await json_response(partial(answer.whole, whole))
    first = await _unless_gone(request, _first(chunks))  # what is wrong is said by a status, so before the stream
    if first is None:
        return Response(status_code=CLIENT_GONE)
    return EventStream(_events(answer, first, chunks), send_timeout=services.send_timeout)


async def _events(answer: Answer, first: Chunk, chunks: Chunks) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(chunks):
        try:
            for piece in answer.pieces(first):
                yield _event(piece)
            async for chunk in chunks:
                for piece in answer.pieces(chunk):
                    yield _event(piece)
        except AmpsweepError as error:
            yield _event(error_body(error))  # the status is sent already
            return
        for piece in answer.closing():
            yield _event(piece)
        yield ServerSentEvent("[DONE]", sep="\n")


def _event(data: object) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), sep="\n")


async def _first(chunks: Chunks) -> Chunk:
    async for chunk in chunks:
        return chunk
    raise EngineFailed("the engine answered nothing")


async def _collected(chunks: Chunks) -> list[Chunk]:
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


async def numbered(streams: Sequence[AsyncGenerator[Chunk]], *, answers: int) -> AsyncGenerator[Chunk]:
    """Yield the chunks of all streams as they come; the answers of the i-th are numbered from i times `answers` on.

    The first error of a stream ends all of them, and so does closing the generator.
    """
    arrived: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue(_WAITING)

    async def forward(position: int, stream: AsyncGenerator[Chunk]) -> None:
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    await arrived.put(replace(chunk, index=position * answers + chunk.index))
        except Exception as error:  # noqa: BLE001  # raised again where the chunks are read
            await arrived.put(error)
        else:
            await arrived.put(None)

    tasks = [asyncio.create_task(forward(position, stream)) for position, stream in enumerate(streams)]
    try:
        ended = 0
        while ended < len(tasks):
            item = await arrived.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                ended += 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
