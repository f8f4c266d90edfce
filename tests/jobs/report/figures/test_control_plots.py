"""The figures of language control: what is drawn for all methods, for a few, and for eighteen languages."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ampsweep.domain.languages.codes import FLORES_CODES
from jobs.report.answers import answer_questions
from jobs.report.data import ReportData
from jobs.report.figures.control_plots import control_and_cost, method_dots
from jobs.report.figures.drawing import svg
from jobs.report.sql.queries import CONTROL_COST, DOES_IT_WORK
from tests.jobs.report.control_sweep import control_summary, render, write_sweep


def tables(folder: Path, rows: list[dict[str, object]]) -> tuple[pa.Table, pa.Table]:
    write_sweep(folder, rows)
    with closing(ReportData(folder)) as data:
        return data.query(DOES_IT_WORK), data.query(CONTROL_COST)


def texts(figure: Figure) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg(figure)).iter() if element.tag.endswith("text")
    ]


def test_every_method_and_measure_of_the_sweep_is_drawn_in_the_colours_of_the_page(tmp_path: Path) -> None:
    works, costs = tables(tmp_path, control_summary(("fr", "ja", "ta")))
    dots = method_dots(works)
    drawn = texts(dots)
    assert {"neurons", "neurons, patch difference", "diffmean", "prompt in English", "random neurons"} <= set(drawn)
    assert {"fr", "ja", "ta", "control", "LSS", "unsteered model"} <= set(drawn)
    assert {"mean", "fr", "ja", "ta", "unsteered model", "cost: loss of accuracy (xcopa: accuracy, n = 100)"} <= set(
        texts(control_and_cost(costs))
    )
    figure = svg(dots)
    for colour in ("stroke: #000000", "fill: #000000", "fill: #ffffff"):
        assert colour not in figure
    assert "currentColor" in figure


def test_the_numbers_of_an_axis_do_not_touch(tmp_path: Path) -> None:
    rows = control_summary(("fr", "it", "ja", "ru", "ta"))
    for row in rows:
        if row["metric"] in ("accuracy", "nll"):
            row.update({name: 0.0009 * row[name] for name in ("delta", "delta_ci_low", "delta_ci_high")})
    for draw, table in zip((method_dots, control_and_cost), tables(tmp_path, rows), strict=True):
        canvas = FigureCanvasAgg(draw(table))
        canvas.draw()
        for axes in filter(Axes.get_visible, canvas.figure.axes):
            low, high = axes.get_xlim()
            ticks = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
            extents = [label.get_window_extent() for label in ticks if label.get_visible()]
            assert all(left.x1 < right.x0 for left, right in pairwise(extents)), axes.get_title(loc="left")


def test_what_the_sweep_does_not_have_is_not_drawn(tmp_path: Path) -> None:
    rows = [
        row
        for row in control_summary(("fr",))
        if row["method"] in ("neurons", "prompt_en") and row["selection"] is None and row["metric"] != "nll"
    ]
    rows = [row for row in rows if row["metric"] not in ("lss", "repetition")]
    works, costs = tables(tmp_path, rows)
    drawn = set(texts(method_dots(works)))
    assert {"control", "prompt in English"} <= drawn
    assert drawn.isdisjoint({"LSS", "quality of texts", "diffmean", "random neurons"})
    assert {row["panel"] for row in costs.to_pylist()} == {"loss of accuracy (xcopa: accuracy, n = 100)"}


def test_a_sweep_without_generated_text_still_shows_lss(tmp_path: Path) -> None:
    works, costs = tables(tmp_path, [row for row in control_summary(("fr",)) if row["metric"] == "lss"])
    assert "LSS" in texts(method_dots(works))
    assert costs.num_rows == 0


@pytest.mark.processes  # draws for seconds
def test_eighteen_languages_have_a_row_and_a_plot_each(tmp_path: Path) -> None:
    rows = [row for row in control_summary(tuple(FLORES_CODES)) if row["metric"] != "nll"]  # one cost is enough
    works, costs = tables(tmp_path, rows)
    of_works, of_costs = texts(method_dots(works)), texts(control_and_cost(costs))
    assert set(FLORES_CODES) <= set(of_works)
    assert set(FLORES_CODES) <= set(of_costs)
    scales = Counter(text for text in of_costs if text == "0.1")
    assert scales
    assert set(scales.values()) == {5}, "each of the 5 columns has a scale, although the last row has 4 plots"


def test_the_page_begins_with_the_answer(tmp_path: Path) -> None:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    with closing(ReportData(tmp_path)) as data:
        answers = list(islice(answer_questions(data), 3))
        page = render(data, answers[::2])
    assert [answer.question.key for answer in answers] == ["does_it_work", "control_cost", "significance"]
    assert "not significant" in page
    assert "prefers-color-scheme: dark" in page
