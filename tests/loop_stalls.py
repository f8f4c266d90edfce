"""Watches event loops and reports the callbacks that block one: for how long, and with which stack.

The duration of a callback is the time in which the loop's thread computed or slept. Three things are subtracted because
the code under test does not cause them:

- garbage collection, which has all objects of a test session to traverse;
- from the time without computing, the time for which threads of this process were ready and waited for a processor
  (Linux reports it), because the loop's thread may have been one of them or may have waited for one of them;
- from the time without computing, the time by which the watch's own thread woke up late, because a thread that only
  sleeps is late when the whole process was stopped, as on a throttled or paused machine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from types import FrameType
from typing import Any

LIMIT = 0.2
"""Seconds for which no callback may keep an event loop."""


@dataclass(frozen=True)
class Stall:
    """A callback that took `seconds`; `where` is its stack while it did."""

    seconds: float
    where: str

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s\n{self.where}"


class LoopWatch:
    """Records the stalls seen so far and the `longest` duration of any callback, in seconds."""

    def __init__(self, limit: float) -> None:
        self.stalls: list[Stall] = []
        self.longest = 0.0
        self._limit = limit
        self._running: dict[int, float] = {}  # threads that run a callback, since when
        self._stacks: dict[int, str] = {}
        self._waits: deque[tuple[float, dict[str, float]]] = deque(maxlen=1000)  # when, how long each thread had waited
        self._late = 0.0  # seconds by which the sampler has woken up late so far
        self._woke = time.monotonic()
        self._collecting = 0.0  # seconds of garbage collection so far
        self._collection_began = 0.0
        self._begins = threading.Lock()
        self._ends = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        run: Any = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            if not self._waits:
                self._begin()
            thread, collecting, late = threading.get_ident(), self._collecting, self._lateness()
            computed = time.thread_time()
            began = self._running[thread] = time.monotonic()
            try:
                run(handle)
            finally:
                del self._running[thread]
                where = self._stacks.pop(thread, "")
                seconds = time.monotonic() - began
                if seconds > self._limit / 4:
                    computed = time.thread_time() - computed
                    slept = max(0.0, seconds - computed - self._waited_since(began) - (self._lateness() - late))
                    seconds = computed + slept - (self._collecting - collecting)
                self.longest = max(self.longest, seconds)
                if seconds > self._limit:
                    self.stalls.append(Stall(seconds, where or repr(handle)))

        asyncio.Handle._run = timed  # type: ignore[method-assign,assignment]
        gc.callbacks.append(self._on_collection)
        try:
            yield
        finally:
            self._ends.set()
            if self._waits:
                self._sampler.join()
            gc.callbacks.remove(self._on_collection)
            asyncio.Handle._run = run  # type: ignore[method-assign]

    def _begin(self) -> None:
        """Start to sample at the first callback: most tests run no event loop."""
        with self._begins:
            if not self._waits:
                self._woke = time.monotonic()
                self._sampler.start()
                self._waits.append((time.monotonic(), _waited()))

    def _sample(self) -> None:
        """Note where a thread is whose callback takes long."""
        self._woke = time.monotonic()
        while not self._ends.wait(self._limit / 4):
            self._late, self._woke = self._lateness(), time.monotonic()
            for thread, began in list(self._running.items()):
                frame = sys._current_frames().get(thread)
                if frame is not None and time.monotonic() - began > self._limit / 2 and thread not in self._stacks:
                    self._stacks[thread] = _stack(frame)
            # Last, because each file read gives up the interpreter's lock and may wait for it afterwards.
            self._waits.append((time.monotonic(), _waited()))
            self._woke = time.monotonic()

    def _lateness(self) -> float:
        """Return the seconds by which the sampler has been late so far, the wait that is under way included."""
        return self._late + max(0.0, time.monotonic() - self._woke - self._limit / 4)

    def _waited_since(self, began: float) -> float:
        before = [waited for index, waited in list(self._waits) if index <= began]
        last = before[-1] if before else self._waits[0][1]
        return sum(waited - last.get(thread, 0.0) for thread, waited in _waited().items())

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.monotonic()
        else:
            self._collecting += time.monotonic() - self._collection_began


@contextmanager
def watched_loops(limit: float = LIMIT) -> Iterator[LoopWatch]:
    """Watch all event loops of this process meanwhile; a callback of more than `limit` seconds is a stall."""
    watch = LoopWatch(limit)
    with watch.watching():
        yield watch


def _stack(frame: FrameType, depth: int = 12) -> str:
    """Return the innermost calls of a thread. Reads no source file, which would wait for the interpreter's lock."""
    calls = islice(traceback.walk_stack(frame), depth)
    return "\n".join(f"{called.f_code.co_filename}:{line} in {called.f_code.co_name}" for called, line in calls)


def _waited() -> dict[str, float]:
    """Return the seconds for which each thread of this process was ready without a processor, since it began."""
    waited = {}
    with os.scandir("/proc/self/task") as threads:  # this and `os.open` take a quarter of the time of `Path.glob`
        names = [thread.name for thread in threads]
    for name in names:
        with suppress(OSError):  # a thread that has ended
            statistics = os.open(f"/proc/self/task/{name}/schedstat", os.O_RDONLY)
            try:
                waited[name] = int(os.read(statistics, 100).split()[1]) / 1e9
            finally:
                os.close(statistics)
    return waited
