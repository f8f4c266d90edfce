"""The figure of curves: its parts do not cover each other."""

from __future__ import annotations

import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jobs.report.figures.lines import curves

PANELS = ("lss", "generation (data=atlas, max_tokens=24, n=3, temperature=0.8): in_target_language, in other languages")


@pytest.mark.parametrize("panel", PANELS)
def test_the_legend_covers_neither_the_title_nor_the_name_of_the_axis(panel: str) -> None:
    shared = {"panel": panel, "intervention": "set max", "reference": 0.0, "n": 1, "y_low": None, "y_high": None}
    rows = [
        {**shared, "target": target, "whose": whose, "x": x, "y": x}
        for target in ("fr", "ja")
        for whose in ("own", "random", "other language", "own, set to 0", "non-language")
        for x in (0.0, 1.0)
    ]
    figure = curves(pa.Table.from_pylist(rows), x_label="factor", y_label="mean effect")
    FigureCanvasAgg(figure).draw()
    (part,) = figure.subfigs
    legend = part.legends[0].get_window_extent()
    texts = {text.get_text(): text.get_window_extent() for text in part.texts}
    assert {panel, "factor"} <= set(texts)
    assert not any(legend.overlaps(extent) for extent in texts.values())
    plots = [axes.get_tightbbox() for axes in part.axes]
    assert not any(plot is None or legend.overlaps(plot) for plot in plots)
