"""The figures of the web page and their files, in a browser."""

from __future__ import annotations

import csv
import io
import json
import statistics
import struct
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from jobs.results.schema import SUMMARY
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

CATCH_FILES = """(() => {
    window.files = {};
    const blobs = new Map();
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => { const url = make(blob); blobs.set(url, blob); return url; };
    HTMLAnchorElement.prototype.click = function () { window.files[this.download] = blobs.get(this.href); };
})()"""
FEW_CELLS_A_PAGE = r"""(() => {
    const { fetch } = window;
    window.fetch = (url, options) => fetch(url.replace(/(\/cells\?.*limit=)\d+/, (_, before) => `${before}1`), options);
})()"""
AS_BASE64 = """((name) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1]);
    reader.readAsDataURL(window.files[name]);
}))"""


def row(**values: object) -> dict[str, Any]:
    fixed = {"task": "xcopa", "metric": "accuracy", "op": "scale", "layers": "all", "method": "neurons", "n": 40}
    known = {"target_language": "fr", "higher_is_better": True, "ci_low": 0.1, "ci_high": 0.9, "baseline": 0.5}
    return {**dict.fromkeys(SUMMARY.names), **fixed, **known, **values}


def saved(tab: Browser, name: str) -> bytes:
    """Save a file of a figure and return it."""
    import base64

    tab.click(f"button[data-file='{name}']")
    tab.until(f"window.files['{name}']")
    content: str = tab.run(f"{AS_BASE64}('{name}')")
    return base64.b64decode(content)


def draw(tab: Browser, module: str, function: str, rows: object) -> None:
    tab.run(CATCH_FILES)
    tab.run(
        f"import('/page/figures/{module}.js').then((module) =>"
        f" document.querySelector('main').replaceChildren(...module.{function}({json.dumps(rows)})))"
    )


def test_curves_have_the_interval_of_a_row_and_that_of_a_mean(installation: Installation, tab: Browser) -> None:
    values = {
        ("en", 1.0): 0.38,
        ("id", 1.0): 0.6,
        ("ru", 1.0): 0.82,
        ("en", 2.0): 0.5,
        ("id", 2.0): 0.5,
        ("ru", 2.0): 0.5,
    }
    rows = [row(data_language=data, factor=factor, value=value, delta=0.0) for (data, factor), value in values.items()]
    seeds = [
        row(data_language="en", factor=1.0, value=value, selection="random", random_seed=seed, delta=0.0)
        for seed, value in enumerate((0.3, 0.5))
    ]
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelector('.sweeps')")
        itself = row(data_language="fr", factor=1.0, value=0.0, delta=0.0)
        draw(tab, "curves", "curves", [*rows, *seeds, itself])
        mean = list(csv.DictReader(io.StringIO(saved(tab, "curves.csv").decode())))
        tab.fill("select[name=data]", "en")
        single = list(csv.DictReader(io.StringIO(saved(tab, "curves.csv").decode())))
        assert "data=en" in tab.run("location.hash")
        picture = ElementTree.fromstring(saved(tab, "curves.svg"))
        png = saved(tab, "curves.png")
        chosen = [row(data_language="en", factor=1.0, value=0.3, tokens="end=8", delta=0.0)]
        draw(tab, "curves", "curves", [*rows, *chosen])
        apart = list(csv.DictReader(io.StringIO(saved(tab, "curves.csv").decode())))
    own = {float(each["x"]): each for each in mean if each["series"].startswith("own neurons")}
    at_one = [value for (_, factor), value in values.items() if factor == 1.0]
    assert float(own[1.0]["y"]) == pytest.approx(statistics.mean(at_one)), "without the target's own language"
    assert (float(own[1.0]["low"]), float(own[1.0]["high"])) == pytest.approx((0.1, 0.9)), "the items may be shared"
    assert float(own[2.0]["low"]) == pytest.approx(0.1)
    assert own[1.0]["n"] == "120"
    by_series = {(each["series"].split(":")[0], float(each["x"])): each for each in single}
    assert by_series["own neurons", 1.0]["low"] == "0.1"
    assert by_series["own neurons", 1.0]["high"] == "0.9"
    assert float(by_series["random", 1.0]["y"]) == pytest.approx(0.4)
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "xcopa: accuracy, on en" in texts
    assert "French (fr)" in texts
    assert {each["series"] for each in apart} == {"own neurons: scale", "own neurons: scale tokens end=8"}
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG")
    assert (width, height) == (2 * int(picture.attrib["width"]), 2 * int(picture.attrib["height"]))
    assert tab.errors == []


def test_items_that_are_alike_have_no_interval(installation: Installation, tab: Browser) -> None:
    """A band ends at a point without one, equal languages without intervals have none, and a tooltip says why."""
    alike = {"metric": "chrf++", "task": "flores", "ci_low": None, "ci_high": None, "note": "no interval: it is alike"}
    known: list[dict[str, Any]] = [row(data_language="en", factor=x, value=0.5, delta=0.0) for x in range(1, 6)]
    divided = [{**each, "ci_low": None, "ci_high": None} if each["factor"] == 3 else each for each in known]
    equal = [
        row(data_language=data, factor=factor, value=0.0, delta=0.0, **alike)
        for data in ("en", "id")
        for factor in (1.0, 2.0)
    ]
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelector('.sweeps')")
        draw(tab, "curves", "curves", known)
        whole = tab.run("document.querySelectorAll('main polygon').length")
        draw(tab, "curves", "curves", divided)
        parts = tab.run("document.querySelectorAll('main polygon').length")
        draw(tab, "curves", "curves", equal)
        means = list(csv.DictReader(io.StringIO(saved(tab, "curves.csv").decode())))
        draw(tab, "heat_maps", "heatMaps", equal)
        titles = tab.run("[...document.querySelectorAll('main tbody td')].map((cell) => cell.title)")
    assert (whole, parts) == (1, 2)
    assert [(mean["y"], mean["low"], mean["high"]) for mean in means] == [("0", "", "")] * 2
    assert titles == ["0.000; difference +0.000, not significant; 40 items; no interval: it is alike"] * 2
    assert tab.errors == []


def test_the_best_factors_stand_beside_those_that_are_equally_good(installation: Installation, tab: Browser) -> None:
    edit = {"op": "set", "patch": "max", "statistic": None, "metric": "lss", "value": 1.0, "languages": 3}
    best = [
        {
            **edit,
            "target_language": "fr",
            "factor": 3.0,
            "tied": [-0.1, 0.0],
            "incomplete": [],
            "decided_by": "control",
        },
        {**edit, "target_language": "ja", "factor": 2.0, "tied": [], "incomplete": [5.0], "decided_by": "lss"},
    ]
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelector('.sweeps')")
        draw(tab, "../sweeps/results", "bestFactors", best)
        lines = tab.run(
            "[...document.querySelectorAll('table.best tr')]"
            ".map((line) => [...line.children].map((cell) => cell.textContent))"
        )
    assert lines == [
        [
            "Target",
            "Intervention",
            "Best factor",
            "Mean LSS",
            "Data languages",
            "Equally good",
            "Fewer languages",
            "Chosen by",
        ],
        ["French (fr)", "set max", "3", "1.000", "3", "-0.1, 0", "–", "language control"],
        ["Japanese (ja)", "set max", "2", "1.000", "3", "–", "5", "LSS"],
    ]
    assert tab.errors == []


def test_a_heat_map_is_saved_with_its_intervals(installation: Installation, tab: Browser) -> None:
    rows = [
        row(data_language=data, target_language=target, factor=2.0, value=0.7, delta=0.2)
        for data in ("en", "id")
        for target in ("fr", "tr")
    ]
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelector('.sweeps')")
        draw(tab, "heat_maps", "heatMaps", rows)
        picture = ElementTree.fromstring(saved(tab, "heat-map.svg"))
        table = list(csv.DictReader(io.StringIO(saved(tab, "heat-map.csv").decode())))
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert (texts.count("0.70"), texts.count("0.10 to 0.90"), texts.count("n 40")) == (4, 4, 4)
    assert [(each["data_language"], each["target_language"], each["n"]) for each in table] == [
        (each["data_language"], each["target_language"], "40") for each in rows
    ]


def test_csv_quotes_what_needs_it(installation: Installation, tab: Browser) -> None:
    rows = [["a", 'say "x", twice'], [None, "line\nbreak"], [1.5, ""]]
    with server_in_thread(installation) as (url, _):
        tab.open(url)
        text = tab.run(f"import('/page/figures/export.js').then(({{csv}}) => csv({json.dumps(rows)}))")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["a", 'say "x", twice'],
        ["", "line\nbreak"],
        ["1.5", ""],
    ]


def test_the_extent_of_the_points_of_a_large_sweep_is_found(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        tab.open(url)
        values = "Array.from({ length: 300_000 }, (_, index) => index - 100_000)"
        found = tab.run(f"import('/page/figures/axes.js').then(({{ extent }}) => extent({values}))")
    assert found == [-100_000, 199_999]


def test_the_layer_profile_counts_the_neurons_of_the_sweep(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()["id"]
        with tab.before_pages(FEW_CELLS_A_PAGE):
            tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until("document.querySelector('.profile td')")
        (neurons,) = httpx.get(f"{url}/v1/neuron-sets").json()["data"]
        by_layer = httpx.get(f"{url}/v1/neuron-sets/{neurons['id']}").json()["by_layer"]
        shown = tab.run("[...document.querySelectorAll('.profile .value')].map((each) => Number(each.textContent))")
    assert shown == [count for language in sorted(by_layer) for count in by_layer[language]]
    assert tab.errors == []
