"""Assembles large sweeps in separate processes, so that the assembly does not slow down the requests of a server.

The same processes write the partial results of sweeps that have not ended.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import LifoQueue
from threading import Lock, Thread
from typing import TypeVar, cast

from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from ampsweep.out_of_threads import named_thread_failures
from jobs.results.finalization.assembly import Assembled, assemble
from jobs.results.finalization.partial import AssembledCells, assemble_cells
from jobs.results.writer import Results
from jobs.storage.factory import open_storage
from jobs.store.records import CellRecord, SweepRecord

log = logging.getLogger(__name__)

T = TypeVar("T")

SMALL = 10_000
SMALL_CELLS = 200
"""Sweeps with at most these numbers of samples and of cells are assembled in the calling process.

That takes about a second, 5 ms of it for each cell however few its samples; starting a process takes two or more.
"""

MAX_DEATHS = 3
"""A sweep fails when the process that assembles it has died this often."""
_DIED = "the process that assembles the results died; the machine may be out of memory"


class AssemblyProcesses:
    """Implements `Assemble` with a pool of processes, each assembling one sweep at a time.

    `assemble_cells` implements `AssembleCells` with the same processes.

    A process (about 220 MiB) is started when it is first needed and runs until `close`. Safe to call from any thread.

    Args:
        results: Where the results are; every process opens the same storage.
        count: The maximum number of processes.
        small: Sweeps with at most this number of samples, and SMALL_CELLS cells, are assembled in the calling process.
    """

    def __init__(self, results: Results, count: int, *, small: int = SMALL) -> None:
        self._results = results
        self._small = small
        self._processes = [_AssemblyProcess(results.root) for _ in range(count)]
        self._free: LifoQueue[_AssemblyProcess] = LifoQueue()  # the one used last is taken first: it is warm
        for process in reversed(self._processes):
            self._free.put(process)
        self._deaths: Counter[str] = Counter()

    def __call__(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        """Assemble a sweep; see `jobs.results.finalization.assembly.assemble`.

        Raises:
            Unavailable: if the process died.
            EngineFailed: if the process has died with this sweep MAX_DEATHS times.
        """
        if self._is_small(cells):
            return assemble(self._results, sweep, cells, epoch)
        try:
            return self._in_process(partial(assemble, sweep=sweep, cells=cells, epoch=epoch))
        except EOFError as error:
            self._deaths[sweep.id] += 1
            if self._deaths[sweep.id] >= MAX_DEATHS:
                raise EngineFailed(f"{_DIED} ({MAX_DEATHS} times)") from error
            raise Unavailable(_DIED) from error

    def assemble_cells(self, sweep: SweepRecord, cells: Sequence[CellRecord], folder: Path) -> AssembledCells:
        """Write the results of a sweep's completed cells to a local folder; see `write_partial`.

        Raises:
            Unavailable: if the process died.
        """
        if self._is_small(cells):
            return assemble_cells(self._results, sweep, cells, folder)
        try:
            return self._in_process(partial(assemble_cells, sweep=sweep, cells=cells, folder=folder))
        except EOFError as error:
            raise Unavailable(_DIED) from error

    def _is_small(self, cells: Sequence[CellRecord]) -> bool:
        rows = [record.rows for record in cells if record.rows is not None]
        return len(rows) <= SMALL_CELLS and sum(rows) <= self._small

    def _in_process(self, function: Callable[[Results], T]) -> T:
        """Call a function in a process that is free; raise EOFError if the process dies."""
        process = self._free.get()
        try:
            return process.call(function)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Kill the processes, even while they assemble a sweep, which is then not published."""
        for process in self._processes:
            process.close()


class _AssemblyProcess:
    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock()
        self._closed = False
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> Connection:
        """Start the process unless it is alive; raise EOFError after `close`."""
        with self._lock:
            if self._closed:
                raise EOFError
            if self._process is None or self._connection is None or not self._process.is_alive():
                context = multiprocessing.get_context("spawn")
                connection, other = context.Pipe()
                arguments = (self._root, other)
                process = context.Process(target=_serve, args=arguments, name="ampsweep-assembly", daemon=True)
                try:
                    process.start()
                except BaseException:
                    connection.close()
                    raise
                finally:
                    other.close()  # only the process holds it now, so its death closes the connection
                self._connection, self._process = connection, process
            return self._connection

    def call(self, function: Callable[[Results], T]) -> T:
        """Return what a function of the results returns in the process; raise EOFError if the process dies."""
        connection = self.start()
        try:
            connection.send(function)
            value, failure = connection.recv()
        except (EOFError, OSError) as error:
            self._end()  # it may still be dying, and must not get another sweep
            raise EOFError from error
        if failure is not None:
            raised, trace = failure
            raised.add_note(trace)
            raise raised
        return cast("T", value)

    def close(self) -> None:
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.join()


def _serve(root: str, connection: Connection) -> None:
    """Call the functions that arrive until the connection is closed."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they reach the whole process group; the server ends this process
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    results = Results(open_storage(root))
    while True:
        try:
            function = connection.recv()
        except EOFError:
            return
        try:
            with named_thread_failures("to assemble the results", Unavailable):
                answer: tuple[object, tuple[Exception, str] | None] = function(results), None
        except Exception as error:  # noqa: BLE001  (raised in the calling process)
            answer = None, (_picklable(error), traceback.format_exc())
        connection.send(answer)


def _picklable(error: Exception) -> Exception:
    """Return an error that can be pickled; many errors of other packages cannot."""
    return error if isinstance(error, AmpsweepError | OSError) else EngineFailed(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
