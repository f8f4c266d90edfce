"""A document of a small report whose texts hold the special characters of every format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from jobs.report.answers import answer
from jobs.report.data import ReportData
from jobs.report.document import Document, Notice, document_of
from jobs.report.questions import QUESTIONS
from tests.jobs.report.control_sweep import control_summary, write_sweep

TITLE = r"<b>50 % & $x_1$ | *a* \b</b>"
KEYS = ("significance", "self_cross")
"""The sections: one with a figure and one without."""


@contextmanager
def small_document(folder: Path) -> Iterator[Document]:
    """Write a sweep to a folder, and yield its document with two sections."""
    write_sweep(folder, control_summary(("fr", "ja")))
    with closing(ReportData(folder)) as data:
        answers = [answer(data, question.key, question.sql) for question in QUESTIONS if question.key in KEYS]
        document = document_of(data, answers)
        yield replace(document, title=TITLE, missing=[Notice("1 cells failed", " & [so_on]")])
