"""The HTML page: each question with its figure, its table, its query, and the table as CSV and LaTeX."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import jinja2
import pyarrow as pa

from jobs.metrics.result import FEW
from jobs.report.data import ReportData
from jobs.report.methods import methods_paragraph
from jobs.report.questions import QUESTIONS, Question
from jobs.report.tables import formatted, to_csv, to_latex
from jobs.report.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a question: its table, and its figure, which is drawn when it is first needed."""

    question: Question
    table: pa.Table

    @cached_property
    def figure(self) -> str | None:
        """The figure as SVG; None if the question has a table only."""
        return None if self.question.draw is None else self.question.draw(self.table)

    @property
    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.table)

    @property
    def latex(self) -> str:
        """The table as LaTeX."""
        return to_latex(self.table, caption=self.question.title, label=self.question.key)


def answer_questions(data: ReportData) -> Iterator[Answer]:
    """Yield the answer to every question; skip questions for which the sweep has no data."""
    items = {row["panel"]: row["items"] for row in data.query("SELECT * FROM panel_items").to_pylist()}
    for question in QUESTIONS:
        table = data.query(question.sql)
        if table.num_rows:
            table = _with_items(table if question.add is None else question.add(table), items)
            yield Answer(question=question, table=table)


def _with_items(table: pa.Table, items: Mapping[str, str]) -> pa.Table:
    """Add the column `items` to a table whose `panel` is that of compared cells: how many items its values rest on."""
    if "panel" not in table.column_names or not set(table["panel"].to_pylist()) <= set(items):
        return table
    column = pa.array([items[panel] for panel in table["panel"].to_pylist()], pa.string())
    return table.add_column(table.column_names.index("panel") + 1, "items", column)


_EXPECTED_CONTROLS = ("random", "other")
"""Controls without which an effect may not be due to the language's own neurons."""
_FEW_ITEMS = """
SELECT count(*) AS rows, min(n) AS least FROM summary WHERE note LIKE '%the interval rests on%' AND rung IS NULL
"""


def render(data: ReportData, answers: list[Answer]) -> str:
    """Return the page as self-contained HTML: no scripts, no fonts, no network.

    Args:
        data: The files of the sweep.
        answers: The answers to show.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("jobs.report").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    (counts,) = data.query("SELECT count(*) AS samples, count(error) AS failed FROM samples").to_pylist()
    signature_rows = data.query("SELECT DISTINCT signature FROM summary WHERE signature IS NOT NULL ORDER BY ALL")
    signatures = signature_rows["signature"].to_pylist()
    (few,) = data.query(_FEW_ITEMS).to_pylist()
    controls = data.provenance.spec["interventions"].get("controls", ())
    return template.render(
        provenance=data.provenance,
        methods=methods_paragraph(data.provenance, samples=counts["samples"], signatures=signatures),
        counts=counts,
        few={**few, "below": FEW},
        has_neurons=data.has_neurons,
        missing_controls=[name for name in _EXPECTED_CONTROLS if name not in controls],
        views=[view.strip() for view in VIEWS],
        sections=[
            {
                "key": answer.question.key,
                "title": answer.question.title,
                "about": answer.question.about,
                "sql": answer.question.sql.strip(),
                "figure": answer.figure,
                "columns": answer.table.column_names,
                "rows": formatted(answer.table.slice(0, answer.question.max_rows)),
                "more": max(0, answer.table.num_rows - answer.question.max_rows),
                "csv": _link(answer.csv),
                "latex": _link(answer.latex),
            }
            for answer in answers
        ],
    )


def _link(text: str) -> str:
    return "data:text/plain;base64," + base64.b64encode(text.encode()).decode()
