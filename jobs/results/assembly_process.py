"""Puts large sweeps together in processes of their own, so that they take no time from the requests of a server."""

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
"""Samples up to which a sweep is put together here: that takes about a second, the start of a process two or more."""

MAX_DEATHS = 3
"""A sweep is given up when the process that put it together has died this often."""


class AssemblyProcesses:
    """Implements `jobs.results.assembly.Assemble` with up to `count` processes, one sweep in each at a time.

    A process (of about 220 MiB) is started when it is first needed and stays until `close`. Sweeps of up to `small`
    samples need none. Safe to call from any thread.
    """

    def __init__(self, results: Results, count: int, *, small: int = SMALL) -> None:
        self._results = results
        self._small = small
        self._processes = [_AssemblyProcess(results.root) for _ in range(count)]
        self._free: LifoQueue[_AssemblyProcess] = LifoQueue()  # the last one used is taken first: it is warm
        for process in reversed(self._processes):
            self._free.put(process)
        self._deaths: Counter[str] = Counter()

    def __call__(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        """Put a sweep together; see `jobs.results.assembly.assemble`.

        Raises Unavailable where the process died, and EngineFailed where it died with this sweep too often.
        """
        if sum(record.rows or 0 for record in cells) <= self._small:
            return assemble(self._results, sweep, cells, epoch)
        process = self._free.get()
        try:
            return process.assemble(sweep, cells, epoch)
        except EOFError as error:
            self._deaths[sweep.id] += 1
            message = "the process that puts the results together died; the machine may be out of memory"
            if self._deaths[sweep.id] >= MAX_DEATHS:
                raise EngineFailed(f"{message} ({MAX_DEATHS} times)") from error
            raise Unavailable(message) from error
        finally:
            self._free.put(process)

    def close(self) -> None:
        """End the processes, whatever they do; what they would have published is published by nobody."""
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
        """Start it, unless it lives; EOFError where it has been closed."""
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
                    other.close()  # its only holder is the process now, so that its death is heard
                self._connection, self._process = connection, process
            return self._connection

    def assemble(self, sweep: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        connection = self.start()
        try:
            connection.send((sweep, cells, epoch))
            answer = connection.recv()
        except (EOFError, OSError) as error:
            self._end()  # it may still be dying, and is not to be asked again
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
    """Put sweeps together until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server says when to end
    Thread(target=_end_with_parent, daemon=True).start()
    results = Results(open_storage(root))
    while True:
        try:
            sweep, cells, epoch = connection.recv()
        except EOFError:
            return
        try:
            answer: Assembled | tuple[Exception, str] = assemble(results, sweep, cells, epoch)
        except Exception as error:  # noqa: BLE001  (raised where it was asked for)
            answer = _that_travels(error), traceback.format_exc()
        connection.send(answer)


def _that_travels(error: Exception) -> Exception:
    """Return an error that can be pickled; of those that are not ours, many cannot."""
    return error if isinstance(error, AmpsweepError | OSError) else EngineFailed(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
