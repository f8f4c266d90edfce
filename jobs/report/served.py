"""Renders the reports of sweeps in processes of their own, because drawing the figures takes seconds of CPU."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from ampsweep.errors import Unavailable
from jobs.report.sources.neurons_file import Neurons, write_neurons_of
from jobs.results.writer import Results
from jobs.store.records import SweepRecord

MAX_WAITING = 8
"""Reports that are rendered or wait for their turn."""
KEPT = 4
"""Rendered reports that are kept in memory for further requests."""

NeuronsOf = Callable[[str], Neurons]
"""Returns the neurons of a set by its id (`jobs.execution.NeuronSetService.neurons`)."""
Render = Callable[[Results, SweepRecord, NeuronsOf], str]


def render_report(results: Results, sweep: SweepRecord, neurons_of: NeuronsOf) -> str:
    """Return the report of an ended sweep as HTML.

    Args:
        results: The published results.
        sweep: The sweep.
        neurons_of: Returns the neurons of a set.

    Raises:
        NotFound: The sweep has no results.
        Unavailable: The process died.
    """
    with TemporaryDirectory(prefix="ampsweep-report-") as folder:
        results.samples_file(sweep).download(Path(folder) / "results.parquet")
        results.summary_file(sweep).download(Path(folder) / "summary.parquet")
        write_neurons_of(Path(folder), neurons_of)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            try:
                return executor.submit(_render, folder).result()
            except BrokenProcessPool as error:
                message = "the process that renders the report died; the machine may be out of memory"
                raise Unavailable(message) from error


class Reports:
    """The reports of a server: one is rendered at a time, once for all who ask for it meanwhile.

    A request that waits holds no thread, so that others are answered. The last KEPT reports are kept.
    """

    def __init__(self, render: Render = render_report) -> None:
        self._render = render
        self._turn = asyncio.Semaphore(1)
        self._tasks: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def html(self, results: Results, sweep: SweepRecord, neurons_of: NeuronsOf) -> str:
        """Return the report of an ended sweep as HTML.

        Raises:
            NotFound: The sweep has no results.
            Unavailable: Too many other reports wait, or the process died.
        """
        assert sweep.files is not None, "it has ended"
        key = sweep.id, sweep.files.samples
        task = self._tasks.pop(key, None)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            if sum(not other.done() for other in self._tasks.values()) >= MAX_WAITING:
                raise Unavailable(f"{MAX_WAITING} other reports are being rendered; retry when they are done")
            task = asyncio.create_task(self._in_turn(results, sweep, neurons_of))
            task.add_done_callback(self._drop_old)
        self._tasks[key] = task  # the last one
        return await asyncio.shield(task)

    def _drop_old(self, _: object) -> None:
        done = [key for key, task in self._tasks.items() if task.done()]
        for key in done[:-KEPT]:
            del self._tasks[key]

    async def _in_turn(self, results: Results, sweep: SweepRecord, neurons_of: NeuronsOf) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._render, results, sweep, neurons_of)


def _render(folder: str) -> str:
    from jobs.report.answers import answer_questions  # here, because the calling process needs no DuckDB or matplotlib
    from jobs.report.data import ReportData
    from jobs.report.document import document_of
    from jobs.report.writers.html import to_html

    with closing(ReportData(Path(folder))) as data:
        return to_html(document_of(data, [answer.drawn() for answer in answer_questions(data)]))
