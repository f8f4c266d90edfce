"""Captures the activations of many texts on one engine, in their order, with bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from ampsweep.domain.capture import capture_bytes
from engine.base import Capture, CaptureRequest, Engine

BYTES_IN_FLIGHT = 256 * 1024**2
"""Bytes of activations that are computed ahead of those yielded. A text that has more is computed alone."""
TEXTS_IN_FLIGHT = 16
"""Texts that are computed ahead; the engine batches them."""


async def captured(
    engine: Engine, requests: Iterable[tuple[CaptureRequest, int]], *, limit: int = BYTES_IN_FLIGHT
) -> AsyncGenerator[Capture]:
    """Yield the captures of requests in their order.

    Closing the generator aborts those that are in flight.

    Args:
        engine: Computes them.
        requests: The requests, each with the number of its tokens.
        limit: Bytes of activations in memory, those yielded last included; a text that takes more is alone.
    """
    waiting: deque[tuple[asyncio.Task[Capture], int]] = deque()
    in_flight = 0
    try:
        for request, tokens in requests:
            size = capture_bytes(tokens, request.neurons.total, "float32")
            while waiting and (in_flight + size > limit or len(waiting) == TEXTS_IN_FLIGHT):
                yield await waiting[0][0]
                in_flight -= waiting.popleft()[1]
            waiting.append((asyncio.create_task(engine.capture(request)), size))
            in_flight += size
        while waiting:
            yield await waiting[0][0]
            waiting.popleft()
    finally:
        for task, _ in waiting:
            task.cancel()
        await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)
