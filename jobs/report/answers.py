"""The answers to the questions of the report: tables of query results, and figures that are drawn when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import pyarrow as pa
from matplotlib.figure import Figure

from jobs.report.data import ReportData
from jobs.report.figures.drawing import svg
from jobs.report.grid import Grid, grid_of
from jobs.report.questions import QUESTIONS, Question
from jobs.report.tables import to_csv, to_latex


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer:
    """The answer to a question: its table, and its figure, which is drawn when it is first needed.

    A notebook displays it as its figure.
    """

    question: Question
    table: pa.Table

    @cached_property
    def figure(self) -> Figure | None:
        """The figure; None if the question has a table only."""
        return None if self.question.draw is None else self.question.draw(self.table)

    def drawn(self) -> Self:
        """Draw the figure now."""
        assert self.question.draw is None or self.figure is not None
        return self

    def _repr_svg_(self) -> str | None:
        return None if self.figure is None else svg(self.figure)

    @property
    def observation(self) -> str:
        """What the figure or the table shows, in a sentence or two."""
        return self.question.observe(self.table)

    @property
    def grid(self) -> Grid:
        """The table for readers, with at most the question's `max_rows` rows."""
        return grid_of(self.table, max_rows=self.question.max_rows)

    @property
    def csv(self) -> str:
        """The table as CSV, with all columns and rows."""
        return to_csv(self.table)

    @property
    def latex(self) -> str:
        """The table as LaTeX, with all rows."""
        return to_latex(grid_of(self.table), caption=self.question.title, label=self.question.key)


def answer_questions(
    data: ReportData, *, on_question: Callable[[int, int], None] = lambda _done, _total: None
) -> Iterator[Answer]:
    """Yield the answer to every question; skip questions for which the sweep has no data.

    Args:
        data: The files of the sweep.
        on_question: Called with the number of questions answered so far and with that of all questions.
    """
    items = _items_of_panels(data)
    for done, question in enumerate(QUESTIONS):
        on_question(done, len(QUESTIONS))
        table = data.query(question.sql)
        if table.num_rows:
            yield _answer(question, table, items)
    on_question(len(QUESTIONS), len(QUESTIONS))


def answer(data: ReportData, key: str, sql: str) -> Answer:
    """Return the answer to one question from a query that may have been edited, for the notebooks of `ampsweep report`.

    Args:
        data: The files of the sweep.
        key: Key of the question.
        sql: The query; its columns must be those of the question's own query.
    """
    (question,) = (question for question in QUESTIONS if question.key == key)
    return _answer(question, data.query(sql), _items_of_panels(data))


def _answer(question: Question, table: pa.Table, items: Mapping[str, str]) -> Answer:
    return Answer(question=question, table=_with_items(table if question.add is None else question.add(table), items))


def _items_of_panels(data: ReportData) -> dict[str, str]:
    return {row["panel"]: row["items"] for row in data.query("SELECT * FROM panel_items").to_pylist()}


def _with_items(table: pa.Table, items: Mapping[str, str]) -> pa.Table:
    """Add the column `items` to a table whose `panel` is that of compared cells: how many items its values rest on."""
    if "panel" not in table.column_names or not set(table["panel"].to_pylist()) <= set(items):
        return table
    column = pa.array([items[panel] for panel in table["panel"].to_pylist()], pa.string())
    return table.add_column(table.column_names.index("panel") + 1, "items", column)
