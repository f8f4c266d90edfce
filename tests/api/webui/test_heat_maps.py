"""The heat maps of the web page, in a browser."""

from __future__ import annotations

import json
from typing import cast

import pytest

from jobs.results.schema import SUMMARY
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import Installation

pytestmark = pytest.mark.processes


def cell_and_caption(tab: Browser, installation: Installation, **values: object) -> tuple[str, str, str]:
    """Return class and title of the only cell of a heat map, and the map's caption, for a row of a summary."""
    row = {
        **dict.fromkeys(SUMMARY.names),
        "task": "xcopa",
        "data_language": "fr",
        "target_language": "fr",
        "op": "set",
        "factor": 2.0,
        "layers": "all",
        "n": 40,
        "value": 2.5,
        "ci_low": 2.4,
        "ci_high": 2.6,
        **values,
    }
    with server_in_thread(installation) as (url, _):
        tab.open(url)
        name, title, caption, parts, share = tab.run(
            "import('/page/figures/heat_maps.js').then(({heatMaps}) => {"
            f"  const [, map] = heatMaps([{json.dumps(row)}]);"
            "  const cell = map.querySelector('tbody td');"
            "  return [cell.className, cell.title, map.querySelector('caption').textContent,"
            "   [...cell.children].map((part) => part.textContent), cell.style.getPropertyValue('--share')];})"
        )
    marks = {"within noise": ", noise", "not significant": ", n.s."}
    mark = next((mark for words, mark in marks.items() if title.endswith(f"{words}; 40 items")), "")
    assert parts == ["2.50", "2.40 to 2.60", f"n 40{mark}"], "without a pointer"
    assert float(share) == pytest.approx(
        min(0.15 if mark else 1.0, abs(cast("float", values["delta"])) / 0.5), abs=1e-3
    )
    assert ("Pale: not significant" in caption) is bool(mark)
    return name, title, caption


@pytest.mark.parametrize(
    ("metric", "higher_is_better", "delta", "colour"),
    [
        ("accuracy", True, 0.1, "up"),
        ("accuracy", True, -0.1, "down"),
        ("repetition", False, -0.1, "up"),
        ("repetition", False, 0.1, "down"),
        ("f1,none", None, 0.1, "neutral"),
    ],
)
def test_an_improvement_is_green_whatever_its_direction(
    installation: Installation, tab: Browser, metric: str, higher_is_better: bool | None, delta: float, colour: str
) -> None:
    interval = {"delta": delta, "delta_ci_low": delta - 0.05, "delta_ci_high": delta + 0.05}
    name, title, caption = cell_and_caption(
        tab, installation, metric=metric, higher_is_better=higher_is_better, **interval
    )
    difference = f"{delta:+.3f} (95 % {delta - 0.05:.3f} to {delta + 0.05:.3f})"
    assert (name, title) == (colour, f"2.500 (95 % 2.400 to 2.600); difference {difference}; 40 items")
    assert "difference from the unsteered model" in caption


@pytest.mark.parametrize(("data_language", "colour"), [("en", "neutral"), ("fr", "down")])
def test_texts_that_leave_the_language_of_the_data_are_no_deterioration(
    installation: Installation, tab: Browser, data_language: str, colour: str
) -> None:
    lost = {"delta": -0.4, "delta_ci_low": -0.5, "delta_ci_high": -0.3, "higher_is_better": True}
    name, _, caption = cell_and_caption(
        tab, installation, metric="in_data_language", data_language=data_language, **lost
    )
    assert name == colour
    assert ("blue, because neither direction is better" in caption) is (colour == "neutral")


@pytest.mark.parametrize(
    ("delta", "noise", "p_value", "conclusion"),
    [
        (0.1, 0.02, None, ""),
        (0.04, 0.02, None, ", not significant"),
        (-0.1, 0.1, None, ", within noise"),
        (0.06, 0.02, None, ", not significant"),  # below what can be detected, and without a test
        (0.06, 0.02, 0.04, ", p 0.040 after correction"),
        (0.1, 0.02, 0.0625, ", p 0.063 after correction, not significant"),
    ],
)
def test_a_difference_is_shown_with_its_noise_and_what_could_have_been_seen(
    installation: Installation, tab: Browser, delta: float, noise: float, p_value: float | None, conclusion: str
) -> None:
    interval = {"delta": delta, "delta_ci_low": delta - 0.05, "delta_ci_high": delta + 0.05, "p_holm": p_value}
    _, title, _ = cell_and_caption(tab, installation, metric="accuracy", noise=noise, mde=0.07, **interval)
    assert title.endswith(f"noise {noise:.3f}, detectable from 0.070{conclusion}; 40 items")
