"""A server on a socket with its event loop in a separate thread, for blocking clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from tests.api.running_server import Server, running_server
from tests.api.socket_server import server_on_socket
from tests.worker.installation import Installation


@contextmanager
def server_in_thread(installation: Installation, **options: Any) -> Iterator[tuple[str, Server]]:
    """Run a server; yield its URL and the server, whose parts belong to the event loop of the other thread."""
    started: SimpleQueue[tuple[str, Server, asyncio.AbstractEventLoop, asyncio.Event] | BaseException] = SimpleQueue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with running_server(installation, **options) as server, server_on_socket(server) as url:
            started.put((url, server, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001  (it is raised again, in the thread that waits)
            started.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    message = started.get(timeout=60)
    if isinstance(message, BaseException):
        raise message
    url, server, loop, stop = message
    try:
        yield url, server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
