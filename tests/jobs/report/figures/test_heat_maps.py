from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import AxesImage

from jobs.report.figures.heat_maps import PALE, SHARE_SPAN, difference_maps


def shades(*differences: tuple[float, str], panel: str = "xcopa: accuracy", mde: float = 0.1) -> list[float]:
    """Return the colours of differences, from 0.5 without colour to 1 with the full one."""
    rows: list[dict[str, Any]] = [
        {
            "panel": panel,
            "items": "n = 20",
            "row": f"l{index}",
            "column": "fr",
            "n": 20,
            "mde": mde,
            "value": value,
            "improvement": value,
            "conclusion": conclusion,
            "noise": None,
        }
        for index, (value, conclusion) in enumerate(differences)
    ]
    (axes,) = difference_maps(pa.Table.from_pylist(rows), rows="data language", columns="target language").axes
    (image,) = (child for child in axes.get_children() if isinstance(child, AxesImage))
    values = image.get_array()
    assert values is not None
    return np.asarray(image.norm(values)).ravel().tolist()


def test_the_colours_of_a_share_have_a_fixed_span() -> None:
    assert shades((0.06, "better")) == pytest.approx([0.5 + 0.06 / SHARE_SPAN / 2])
    assert shades((0.06, "better"), (0.8, "better")) == pytest.approx([0.5 + 0.06 / 0.8 / 2, 1.0])
    assert shades((1.0, "better"), panel="generation: length", mde=4.0) == pytest.approx([0.5 + 1 / 4 / 2])


@pytest.mark.parametrize("conclusion", ["not significant", "within noise"])
def test_what_is_not_significant_is_pale(conclusion: str) -> None:
    (rise, fall) = shades((0.4, conclusion), (-0.4, conclusion))
    assert (rise, fall) == pytest.approx((0.5 + PALE / 2, 0.5 - PALE / 2))
    assert min(mpl.colormaps["RdBu"](rise)[:3]) > 0.75, "nearly white"
