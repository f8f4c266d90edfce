"""The engines of a server: started together, watched, started again when they die.

A pool knows engines by the name of their model. It does not know what is to be computed, nor what became of it: a
cell is handed in, its file or its error comes out. An engine is `starting`, `ready` or `failed`; one that dies while
ready is started anew, one that cannot be started stays failed with its error.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from ampsweep.errors import AmpsweepError, EngineFailed, EngineLost, Unavailable, UnknownName
from jobs.cell import Cell, NeuronsRef
from jobs.ports import CompletionCall, CompletionChunk, EngineFigures
from jobs.store.records import CellFile
from worker.engines import EngineSpec
from worker.host import Host

log = logging.getLogger(__name__)

MAX_STARTS = 3
"""An engine whose start fails this often in a row is given up."""

PROGRESS_SECONDS = 5.0
"""How long an engine may take to say how far its cells are."""

STATS_SECONDS = 2.0
"""How long an engine may take to say its numbers."""

CHECK_SECONDS = 30.0
"""How long an engine in doubt may take to give one token."""


@dataclass(kw_only=True)
class _Seat:
    """The place of one engine; the hosts in it come and go."""

    spec: EngineSpec
    state: Literal["starting", "ready", "failed"] = "starting"
    error: AmpsweepError | None = None
    host: Host | None = None
    streams: int = 0
    cells: int = 0
    starts: int = 0
    failed_starts: int = 0
    deaths: int = 0
    reserved: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def load(self) -> int:
        return self.streams + self.cells

    @contextmanager
    def streaming(self) -> Iterator[None]:
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @contextmanager
    def computing(self) -> Iterator[None]:
        self.cells += 1
        try:
            yield
        finally:
            self.cells -= 1
            self.left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Take the seat for one cell: no other is given to it, and those in flight are waited for."""
        self.reserved = True
        try:
            while self.cells > 1:
                self.left.clear()
                await self.left.wait()
            yield
        finally:
            self.reserved = False


class Pool(ABC):
    """Engines by model; where their hosts live is what the subclasses say."""

    def __init__(self, specs: Sequence[EngineSpec], *, cells_per_engine: int = 8) -> None:
        self._seats = [_Seat(spec=spec) for spec in specs for _ in range(spec.count)]
        self._cells_per_engine = cells_per_engine
        self._keepers: list[asyncio.Task[None]] = []
        self._checks: dict[Host, asyncio.Task[bool]] = {}
        self._crowds: dict[Host, int] = {}  # how many cells were in flight when a host first failed
        self._waiting: set[tuple[str, int]] = set()  # cells that wait for a seat of their own
        self._settled = asyncio.Event()
        self._on_change: list[Callable[[], None]] = []

    @abstractmethod
    async def _begin(self) -> None:
        """Make the place where hosts live."""

    @abstractmethod
    def _make_host(self, spec: EngineSpec) -> Host:
        """Make a host, not opened yet."""

    @abstractmethod
    async def _end(self) -> None:
        """Leave the place as it was found; hosts are closed by now."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` in the event loop whenever an engine has changed its state."""
        self._on_change.append(on_change)

    async def start(self) -> None:
        """Begin to start every engine; return at once. `ready` waits for them."""
        await self._begin()
        self._keepers = [asyncio.create_task(self._keep(seat)) for seat in self._seats]

    async def ready(self) -> None:
        """Wait until no engine is starting; raise the error of a model of which none came up."""
        await self._settled.wait()
        for model in {seat.spec.model for seat in self._seats}:
            if error := self._broken(model):
                raise error

    async def stop(self) -> None:
        """Close every engine and all that `start` started. A second call changes nothing."""
        tasks = [*self._keepers, *self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keepers = []
        await self._end()

    def capacity(self) -> Mapping[str, int]:
        """Return for each model how many cells its ready engines take at once.

        A model whose engines have all failed takes cells too: they come back with the engine's error at once. An
        engine that is kept for one cell alone takes no more than it has.
        """
        room = dict.fromkeys((seat.spec.model for seat in self._seats), 0)
        for seat in self._seats:
            if seat.state == "ready" or self._broken(seat.spec.model):
                room[seat.spec.model] += seat.cells if seat.reserved else self._cells_per_engine
        return room

    def takes_one_alone(self, model: str) -> bool:
        """Whether an engine of the model can be kept for one cell alone: one at a time, so that others go on."""
        seats = [seat for seat in self._seats if seat.spec.model == model]
        return any(seat.host is not None for seat in seats) and not any(seat.reserved for seat in seats)

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return, by cell id and epoch, how many samples are done of each cell of which there is a sign of life.

        An engine that does not answer in time is doubted, and started again where it cannot give one token either.
        """
        hosts = [seat.host for seat in self._seats if seat.host is not None]
        answers = await asyncio.gather(*map(self._asked, hosts))
        return {
            key: samples for answer in [dict.fromkeys(self._waiting, 0), *answers] for key, samples in answer.items()
        }

    async def _asked(self, host: Host) -> Mapping[tuple[str, int], int]:
        try:
            async with asyncio.timeout(PROGRESS_SECONDS):
                return await host.progress()
        except (TimeoutError, EngineFailed) as error:
            log.warning("an engine gives no sign of life: %s", error or type(error).__name__)
            self._doubt(host)
            return {}

    def engines(self) -> list[Mapping[str, Any]]:
        """Return for each engine its `model`, `state` (starting, ready, failed) and `error`."""
        return [
            {
                "model": seat.spec.model,
                "engine": seat.spec.kind,
                "state": seat.state,
                "error": seat.error and seat.error.message,
            }
            for seat in self._seats
        ]

    async def figures(self) -> list[EngineFigures]:
        """Return every engine's numbers; an engine that does not answer in time has no stats."""
        stats = await asyncio.gather(*(self._stats(seat) for seat in self._seats))
        places: dict[str, int] = {}
        found = []
        for seat, numbers in zip(self._seats, stats, strict=True):
            place = places[seat.spec.model] = places.get(seat.spec.model, -1) + 1
            found.append(
                EngineFigures(
                    model=seat.spec.model,
                    place=place,
                    state=seat.state,
                    starts=seat.starts,
                    failed_starts=seat.failed_starts,
                    deaths=seat.deaths,
                    cells=seat.cells,
                    streams=seat.streams,
                    stats=numbers,
                )
            )
        return found

    async def _stats(self, seat: _Seat) -> Mapping[str, float] | None:
        if seat.host is None:
            return None
        try:
            async with asyncio.timeout(STATS_SECONDS):
                return await seat.host.stats()
        except (TimeoutError, EngineFailed):  # whether it lives is asked with the next heartbeat
            return None

    async def run_cell(self, cell: Cell, epoch: int, *, alone: bool = False) -> CellFile:
        """Compute a cell on the least busy engine of its model and return its published file.

        `alone` keeps the engine for it: the cells in flight there end first, no other is begun. Raises EngineFailed
        where the engine died of this cell, or lives on and failed it; EngineLost where it died with other cells in
        flight; Unavailable where none is ready.
        """
        seat, host = self._choose(cell.model)
        with seat.computing():
            if alone:
                self._waiting.add((cell.id, epoch))
                try:
                    async with seat.alone():
                        self._waiting.discard((cell.id, epoch))
                        if seat.host is not host:
                            raise Unavailable(f"the engine of model {cell.model!r} ended; try again soon")
                        return await self._computed(seat, host, cell, epoch)
                finally:
                    self._waiting.discard((cell.id, epoch))
            return await self._computed(seat, host, cell, epoch)

    async def _computed(self, seat: _Seat, host: Host, cell: Cell, epoch: int) -> CellFile:
        try:
            return await host.run_cell(cell, epoch)
        except EngineFailed as error:
            crowd = self._crowds.setdefault(host, seat.cells)
            lives = await asyncio.shield(self._doubt(host))
            if lives or crowd == 1:
                raise
            message = f"the engine died with {crowd} cells in flight: {error.message}"
            raise EngineLost(message) from error

    async def find_neurons(self, model: str, ref: NeuronsRef) -> None:
        """Let the least busy engine of a model identify a neuron set, unless it is there; raises as `run_cell`."""
        seat, host = self._choose(model)
        with seat.streaming():  # as a completion: a cell in flight is not blamed for it
            try:
                await host.find_neurons(ref)
            except EngineFailed:
                self._doubt(host)
                raise

    async def stream(self, call: CompletionCall) -> AsyncGenerator[CompletionChunk]:
        """Stream a completion from the least busy engine of its model; closing the generator aborts it."""
        seat, host = self._choose(call.model)
        with seat.streaming():
            try:
                async with aclosing(host.stream(call)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except EngineFailed:
                self._doubt(host)
                raise

    def _choose(self, model: str) -> tuple[_Seat, Host]:
        seats = [seat for seat in self._seats if seat.spec.model == model]
        if not seats:
            raise UnknownName("model", model, {seat.spec.model for seat in self._seats}, param="model")
        if error := self._broken(model):
            raise error
        ready = [(seat, seat.host) for seat in seats if seat.host is not None]
        if not ready:
            raise Unavailable(f"the engine of model {model!r} is starting; try again soon")
        return min(ready, key=lambda pair: (pair[0].reserved, pair[0].load))

    def _broken(self, model: str) -> AmpsweepError | None:
        seats = [seat for seat in self._seats if seat.spec.model == model]
        return seats[0].error if all(seat.state == "failed" for seat in seats) else None

    def _changed(self) -> None:
        if all(seat.state != "starting" for seat in self._seats):
            self._settled.set()
        else:
            self._settled.clear()
        for callback in self._on_change:
            callback()

    def _doubt(self, host: Host) -> asyncio.Task[bool]:
        """Close a host that no longer answers at all; its keeper then starts another. Its result says if it lives."""
        if host not in self._checks:
            self._checks[host] = asyncio.create_task(self._check(host))
        return self._checks[host]

    async def _check(self, host: Host) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await host.check()
        except Exception as error:
            known = isinstance(error, AmpsweepError | TimeoutError)
            log.warning("an engine no longer answers; it is started again", exc_info=None if known else error)
            await host.close()
            return False
        else:
            self._crowds.pop(host, None)
            return True
        finally:
            del self._checks[host]

    async def _keep(self, seat: _Seat) -> None:
        """Keep an engine in its seat until it cannot be started any more."""
        failures = 0
        while seat.state != "failed":
            host = self._make_host(seat.spec)
            try:
                await host.open()
            except Exception as error:
                log.exception("the engine of model %s did not start", seat.spec.model)
                seat.failed_starts += 1
                failures += 1
                self._not_started(seat, error, last=failures == MAX_STARTS)
            else:
                failures = 0
                await self._serve(seat, host)
            finally:
                with suppress(Exception):
                    await host.close()

    async def _serve(self, seat: _Seat, host: Host) -> None:
        seat.state, seat.host = "ready", host
        seat.starts += 1
        log.info("the engine of model %s is ready", seat.spec.model)
        self._changed()
        try:
            reason = await host.ended()
        finally:
            seat.state, seat.host = "starting", None
            self._crowds.pop(host, None)
        seat.deaths += 1
        log.warning("the engine of model %s ended (%s); it is started again", seat.spec.model, reason)
        self._changed()

    def _not_started(self, seat: _Seat, error: Exception, *, last: bool) -> None:
        known = error if isinstance(error, AmpsweepError) else EngineFailed(f"the engine did not start: {error}")
        if last or known.status < 500:
            seat.state, seat.error = "failed", known
            self._changed()
