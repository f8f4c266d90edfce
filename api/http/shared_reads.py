"""Reads that event streams share: hundreds of streams of a sweep read its new events once, and not once each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class SharedReads(Generic[T]):
    """Runs blocking reads in threads, equal ones at the same time only once.

    A read is shared only by streams with the same subscription (`ChangeNotifier`). Each of them subscribed after the
    last notification, as the read began after it, so a change that the read misses notifies all of them.
    """

    def __init__(self) -> None:
        self._running: WeakKeyDictionary[asyncio.Event, dict[Hashable, asyncio.Task[T]]] = WeakKeyDictionary()

    async def read(self, subscription: asyncio.Event, key: Hashable, read: Callable[[], T]) -> T:
        """Return what `read` returns, called in a thread unless the read with this key is running already.

        Args:
            subscription: The caller's subscription, made before this call.
            key: Equal for reads that return the same.
            read: The read.
        """
        running = self._running.setdefault(subscription, {})
        task = running.get(key)
        if task is None:
            task = running[key] = asyncio.create_task(asyncio.to_thread(read))
            task.add_done_callback(lambda _: running.pop(key, None))
        return await asyncio.shield(task)  # a stream that ends must not end the read of the others
