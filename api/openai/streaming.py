"""Runs the generation of a request and sends it as one response or as a stream of events.

The generation is aborted when the client disconnects.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi import Request
from sse_starlette.event import ServerSentEvent
from starlette.responses import Response

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest
from api.errors import CLIENT_GONE
from api.http.event_stream import EventStream
from api.http.json_body import json_response
from api.services import Services
from jobs.execution import CompletionCall, Completions

T = TypeVar("T")
Chunks = AsyncGenerator[Chunk]

_MAX_QUEUED = 64
"""Chunks that are generated ahead of a client that reads slowly."""


class Formatter(Protocol):
    """Formats the chunks of a response in the schema of one of OpenAI's endpoints."""

    names_events: bool
    """Whether each event of a stream has its `type` as its name; such a stream does not end with `[DONE]`."""

    def response(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the response to a request without `stream`, from all its chunks."""
        ...

    def events(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream for one chunk."""
        ...

    def final_events(self) -> Iterator[dict[str, Any]]:
        """Yield the events after the last chunk."""
        ...

    def error_event(self, error: AmpsweepError) -> dict[str, Any]:
        """Return the event for an error after the beginning of a stream."""
        ...


async def generation_response(
    services: Services,
    request: Request,
    calls: Sequence[CompletionCall],
    formatter: Formatter,
    *,
    stream: bool,
    param_of: Callable[[int], str],
) -> Response:
    """Run the calls of a request and return their response.

    Args:
        services: The services of the server.
        request: The request; generation is aborted when its client disconnects.
        calls: One call for each prompt.
        formatter: Formats the response.
        stream: Whether to send a stream of events. Errors before the first event are raised, and so have a status of
            their own; later ones are events.
        param_of: Returns the field that has the intervention of the i-th call, which errors about it name.

    Returns:
        A JSON response or a stream of events; an empty response if the client has disconnected.

    Raises:
        EngineFailed: The engine ended the generation without any output.
    """
    chunks = _generate(services.completions, calls, param_of)
    if not stream:
        collected = await unless_gone(request, _collect(chunks))
        if collected is None:
            return Response(status_code=CLIENT_GONE)
        return await json_response(partial(formatter.response, collected))
    first = await unless_gone(request, _first(chunks))
    if first is None:
        return Response(status_code=CLIENT_GONE)
    return EventStream(_events(formatter, first, chunks), send_timeout=services.send_timeout)


async def generate(
    completions: Completions, calls: Sequence[CompletionCall], param_of: Callable[[int], str]
) -> list[Chunk]:
    """Run the calls of a request and return the chunks of their answers; raise EngineFailed if there are none.

    `param_of` returns the field that has the intervention of the i-th call, which errors about it name.
    """
    whole = [replace(call, stream=False) for call in calls]
    return await _collect(_generate(completions, whole, param_of))


def _generate(completions: Completions, calls: Sequence[CompletionCall], param_of: Callable[[int], str]) -> Chunks:
    streams = [_naming(completions.stream(call), param_of(index)) for index, call in enumerate(calls)]
    return streams[0] if len(streams) == 1 else merge_streams(streams, choices_per_prompt=calls[0].sampling.n)


async def _naming(stream: AsyncGenerator[Chunk], param: str) -> AsyncGenerator[Chunk]:
    """Yield the chunks of a stream; errors about its intervention name `param`, the field that has it."""
    async with aclosing(stream) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except InvalidRequest as error:
            first, *path = (error.param or "").split(".")
            if first == "intervention":
                error.param = ".".join([param, *path])
            raise


async def _events(formatter: Formatter, first: Chunk, chunks: Chunks) -> AsyncGenerator[ServerSentEvent]:
    named = formatter.names_events
    async with aclosing(chunks):
        try:
            for event in formatter.events(first):
                yield _event(event, named=named)
            async for chunk in chunks:
                for event in formatter.events(chunk):
                    yield _event(event, named=named)
        except AmpsweepError as error:  # an event, because the status has been sent already
            yield _event(formatter.error_event(error), named=named)
            return
        for event in formatter.final_events():
            yield _event(event, named=named)
        if not named:
            yield ServerSentEvent("[DONE]", sep="\n")


def _event(data: dict[str, Any], *, named: bool) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), event=data["type"] if named else None, sep="\n")


async def _first(chunks: Chunks) -> Chunk:
    async for chunk in chunks:
        return chunk
    raise EngineFailed("the engine ended the generation without any output")


async def _collect(chunks: Chunks) -> list[Chunk]:
    async with aclosing(chunks):
        collected = [chunk async for chunk in chunks]
    if not collected:
        raise EngineFailed("the engine ended the generation without any output")
    return collected


async def unless_gone(request: Request, work: Coroutine[None, None, T]) -> T | None:
    """Return the result of `work`, or cancel it and return None if the client disconnects first."""
    work_task = asyncio.ensure_future(work)
    disconnect_task = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait([work_task, disconnect_task], return_when=asyncio.FIRST_COMPLETED)
        if work_task.done():
            return work_task.result()
        return None
    finally:
        for task in (work_task, disconnect_task):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await disconnect_task
        await asyncio.wait([work_task])


async def _disconnect(request: Request) -> None:
    """Wait until the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def merge_streams(streams: Sequence[AsyncGenerator[Chunk]], *, choices_per_prompt: int) -> AsyncGenerator[Chunk]:
    """Yield the chunks of the streams of several prompts as they arrive, and renumber their choices.

    The choices of the i-th stream get the indices from i × `choices_per_prompt` on. The first error of a stream ends
    all streams, and so does closing the generator.
    """
    queue: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue(_MAX_QUEUED)

    async def forward(position: int, stream: AsyncGenerator[Chunk]) -> None:
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    await queue.put(replace(chunk, index=position * choices_per_prompt + chunk.index))
        except Exception as error:  # noqa: BLE001  # raised again below, where the chunks are read
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(forward(position, stream)) for position, stream in enumerate(streams)]
    try:
        ended = 0
        while ended < len(tasks):
            item = await queue.get()
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
