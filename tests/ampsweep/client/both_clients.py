"""Both clients behind one interface, so that each test tests both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from ampsweep import AsyncClient, Client

KINDS = ("blocking", "async")


@contextmanager
def opened(kind: str, url: str, **options: Any) -> Iterator[Client]:
    """Open a client of one kind and yield it as a `Client`."""
    if kind == "blocking":
        with Client(url, **options) as client:
            yield client
        return
    opened_client = AsyncClient(url, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    waiting = _Waiting(opened_client, loop)
    try:
        yield cast("Client", waiting)
    finally:
        waiting.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Waiting:
    """An AsyncClient whose calls are waited for, each in the client's event loop."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def waited(*arguments: Any, **options: Any) -> Any:
            work = call(*arguments, **options)
            return self._items(work) if isinstance(work, AsyncGenerator) else self._result(work)

        return waited

    def _items(self, items: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._result(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._result(items.aclose())

    def _result(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


async def _next(items: AsyncGenerator[Any]) -> Any:
    return await anext(items)
