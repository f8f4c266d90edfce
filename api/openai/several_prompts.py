"""The answers to several prompts of one request, drawn together and told in one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from jobs.execution import CompletionChunk

_WAITING = 64
"""Chunks that are drawn ahead of a client that reads slowly."""


async def numbered(
    streams: Sequence[AsyncGenerator[CompletionChunk]], *, answers: int
) -> AsyncGenerator[CompletionChunk]:
    """Yield the chunks of all streams as they come; the answers of the i-th are numbered from i times `answers` on.

    The first error of a stream ends all of them, and so does closing the generator.
    """
    arrived: asyncio.Queue[CompletionChunk | BaseException | None] = asyncio.Queue(_WAITING)

    async def forward(position: int, stream: AsyncGenerator[CompletionChunk]) -> None:
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
