"""Assembles large sweeps in separate processes, so that the assembly does not slow down the requests of a server."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import LifoQueue
from threading import Lock, Thread

from ampsweep.errors import AmpsweepError, EngineFailed, Unavailable
from jobs.results.assembly import Assembled, assemble
from jobs.results.writer import Results
from jobs.storage.factory import open_storage
from jobs.store.records import CellRecord, SweepRecord

log = logging.getLogger(__name__)

SMALL = 10_000
SMALL_CELLS = 200
"""Sweeps with at most these numbers of samples and of cells are assembled in the calling process.

That takes about a second, 5 ms of it for each cell however few its samples; starting a process takes two or more.
"""

MAX_DEATHS = 3
"""A sweep fails when the process that assembles it has died this often."""


class AssemblyProcesses:
    """Implements `jobs.results.assembly.Assemble` with a pool of processes, each assembling one sweep at a time.

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
        """Assemble a sweep; see `jobs.results.assembly.assemble`.

        Raises:
            Unavailable: if the process died.
            EngineFailed: if the process has died with this sweep MAX_DEATHS times.
        """
        if len(cells) <= SMALL_CELLS and sum(record.rows or 0 for record in cells) <= self._small:
            return assemble(self._results, sweep, cells, epoch)
        process = self._free.get()
        try:
            return process.assemble(sweep, cells, epoch)
        except EOFError as error:
            self._deaths[sweep.id] += 1
            message = "the process that assembles the results died; the machine may be out of memory"
            if self._deaths[sweep.id] >= MAX_DEATHS:
                raise EngineFailed(f"{message} ({MAX_DEATHS} times)") from error
            raise Unavailable(message) from error
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

    def assemble(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        connection = self.start()
        try:
            connection.send((sweep, cells, epoch))
            answer = connection.recv()
        except (EOFError, OSError) as error:
            self._end()  # it may still be dying, and must not get another sweep
            raise EOFError from error
        if isinstance(answer, Assembled):
            return answer
        failure, trace = answer
        failure.add_note(trace)
        raise failure

    def close(self) -> None:
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.join()


def _serve(root: str, connection: Connection) -> None:
    """Assemble sweeps until the connection is closed."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they reach the whole process group; the server ends this process
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    results = Results(open_storage(root))
    while True:
        try:
            sweep, cells, epoch = connection.recv()
        except EOFError:
            return
        try:
            answer: Assembled | tuple[Exception, str] = assemble(results, sweep, cells, epoch)
        except Exception as error:  # noqa: BLE001  (raised in the calling process)
            answer = _picklable(error), traceback.format_exc()
        connection.send(answer)


def _picklable(error: Exception) -> Exception:
    """Return an error that can be pickled; many errors of other packages cannot."""
    return error if isinstance(error, AmpsweepError | OSError) else EngineFailed(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
