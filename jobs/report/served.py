"""Renders the report of a sweep in a process of its own, because drawing its figures takes seconds of CPU."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from ampsweep.errors import Unavailable
from jobs.results.writer import Results
from jobs.store.records import SweepRecord

_rendering = Lock()


def render_report(results: Results, sweep: SweepRecord) -> str:
    """Return the report of an ended sweep as HTML; one report is rendered at a time.

    Raises:
        NotFound: The sweep has no results.
        Unavailable: The process died.
    """
    with _rendering, TemporaryDirectory(prefix="ampsweep-report-") as folder:
        (Path(folder) / "results.parquet").write_bytes(results.samples_file(sweep).read())
        (Path(folder) / "summary.parquet").write_bytes(results.summary_file(sweep).read())
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            try:
                return executor.submit(_render, folder).result()
            except BrokenProcessPool as error:
                message = "the process that renders the report died; the machine may be out of memory"
                raise Unavailable(message) from error


def _render(folder: str) -> str:
    from jobs.report.answers import answer_questions  # here, because the calling process needs no DuckDB or matplotlib
    from jobs.report.data import ReportData
    from jobs.report.document import document_of
    from jobs.report.writers.html import to_html

    with closing(ReportData(Path(folder))) as data:
        return to_html(document_of(data, [answer.drawn() for answer in answer_questions(data)]))
