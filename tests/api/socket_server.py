"""A server on a real socket in the test's event loop, for clients with their own HTTP stack."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from ampsweep.cli.server import http_server
from ampsweep.domain.generation.chunk import Chunk
from engine.base import GenerateRequest
from tests.api.running_server import Server


@asynccontextmanager
async def server_on_socket(server: Server, *, send_buffer: int | None = None) -> AsyncIterator[str]:
    """Serve a server's application with uvicorn, as `ampsweep serve` does; yield its URL.

    `send_buffer` is the number of bytes that the kernel buffers for a client that does not read; by default megabytes.
    """
    with closing(http_server.listen("127.0.0.1", 0)) as socket:
        if send_buffer is not None:
            socket.setsockopt(SOL_SOCKET, SO_SNDBUF, send_buffer)
        http = http_server.HttpServer(server.app)
        answering = asyncio.create_task(http.serve([socket]))
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            http.force_exit = http.should_exit = True
            await answering


class GenerationCounter:
    """Counts the generations of a server's engine: `begun`, and then `finished` or `aborted`."""

    def __init__(self, server: Server) -> None:
        host: Any = server.pool._slots[0].session
        self.counts: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._generate = host._engine.generate
        host._engine.generate = self._counted

    async def until(self, **counts: int) -> None:
        """Wait until each count is reached."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.counts[name] >= count for name, count in counts.items()))

    async def _counted(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        unfinished = request.sampling.n
        await self._count("begun")
        try:
            async with aclosing(self._generate(request)) as chunks:
                async for chunk in chunks:
                    unfinished -= chunk.finish_reason is not None
                    yield chunk
        finally:
            await self._count("aborted" if unfinished else "finished")

    async def _count(self, name: str) -> None:
        self.counts[name] += 1
        async with self._changed:
            self._changed.notify_all()
