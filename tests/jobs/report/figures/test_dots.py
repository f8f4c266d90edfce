"""Dot plots: the names of languages whose values are close."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from matplotlib.text import Annotation

from jobs.report.figures.dots import LABEL_HEIGHT, MAX_LABELS, strip_plot


def strip(values: dict[str, float]) -> tuple[list[str], list[float], float]:
    """Return the names beside the dots, their heights, and the height of the plot."""
    rows = [
        {"panel": "xcopa: accuracy", "items": "n = 9", "class": "high", "whose": whose, "language": code, "y": y}
        for whose in ("own", "random")
        for code, y in values.items()
    ]
    (axes,) = strip_plot(pa.Table.from_pylist(rows)).axes
    low, high = axes.get_ylim()
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    return [label.get_text() for label in labels], [float(label.xy[1]) for label in labels], high - low


def test_names_of_close_values_do_not_cover_each_other() -> None:
    values = {"fr": 0.5, "ja": 0.501, "ru": 0.502, "tr": 0.1}
    names, heights, size = strip(values)
    assert set(names) == set(values)
    assert all(upper - lower >= LABEL_HEIGHT * size * 0.999 for lower, upper in pairwise(sorted(heights)))
    assert abs(min(heights) - 0.1) < LABEL_HEIGHT * size, "a name stays beside its dot"


def test_many_languages_have_no_names() -> None:
    names, _, _ = strip({f"l{number}": number / 10 for number in range(MAX_LABELS + 1)})
    assert names == []
