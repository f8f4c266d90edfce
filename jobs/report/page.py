"""The page: each question with its figure, its table, the query that made both, and the table as CSV and LaTeX."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import get_args

import jinja2
import pyarrow as pa

from ampsweep.domain.intervention import Selection
from jobs.metrics.result import FEW
from jobs.report.data import ReportData
from jobs.report.methods import methods_paragraph
from jobs.report.questions import QUESTIONS, Question
from jobs.report.tables import shown, to_csv, to_latex
from jobs.report.views import VIEWS

_LONGEST = 40
"""Rows of a table that stand on the page; CSV and LaTeX have all."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question's answer: `figure` is SVG, None where it is a table only."""

    question: Question
    table: pa.Table
    figure: str | None

    @property
    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.table)

    @property
    def latex(self) -> str:
        """The table in LaTeX."""
        return to_latex(self.table, caption=self.question.title, label=self.question.key)


def answers(data: ReportData) -> Iterator[Answer]:
    """Ask every question; those that the sweep says nothing about are passed over."""
    for question in QUESTIONS:
        table = data.ask(question.sql)
        if table.num_rows:
            table = table if question.add is None else question.add(table)
            figure = None if question.draw is None else question.draw(table)
            yield Answer(question=question, table=table, figure=figure)


_FEW_ITEMS = """
SELECT count(*) AS rows, min(n) AS least FROM summary WHERE note LIKE '%the interval rests on%' AND rung IS NULL
"""


def render(data: ReportData, found: list[Answer]) -> str:
    """Return the page as HTML that needs nothing else: no script, no font, no network."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("jobs.report").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    (counts,) = data.ask("SELECT count(*) AS samples, count(error) AS failed FROM samples").to_pylist()
    signed = data.ask("SELECT DISTINCT signature FROM summary WHERE signature IS NOT NULL ORDER BY ALL")
    signatures = signed["signature"].to_pylist()
    (few,) = data.ask(_FEW_ITEMS).to_pylist()
    controls = data.provenance.spec["interventions"].get("controls", ())
    return template.render(
        provenance=data.provenance,
        methods=methods_paragraph(data.provenance, samples=counts["samples"], signatures=signatures),
        counts=counts,
        few={**few, "below": FEW},
        has_neurons=data.has_neurons,
        missing_controls=[name for name in get_args(Selection) if name not in controls],
        views=[view.strip() for view in VIEWS],
        sections=[
            {
                "key": each.question.key,
                "title": each.question.title,
                "about": each.question.about,
                "sql": each.question.sql.strip(),
                "figure": each.figure,
                "columns": each.table.column_names,
                "rows": shown(each.table.slice(0, _LONGEST)),
                "more": max(0, each.table.num_rows - _LONGEST),
                "csv": _link(each.csv),
                "latex": _link(each.latex),
            }
            for each in found
        ],
    )


def _link(text: str) -> str:
    return "data:text/plain;base64," + base64.b64encode(text.encode()).decode()
