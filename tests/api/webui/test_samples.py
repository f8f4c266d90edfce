"""The browser of samples and the comparison of two sweeps, on the web page."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from jobs.results.schema import SUMMARY
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

SAMPLE = "document.querySelector('.samples li')"


def test_samples_are_filtered_and_shown_beside_the_unsteered_ones(installation: Installation, tab: Browser) -> None:
    ids = "[...document.querySelectorAll('.samples li')].map((each) => each.dataset.id)"
    with server_in_thread(installation) as (url, _):
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until(SAMPLE)
        tab.fill("select[name=target]", "Turkish (tr)")
        tab.fill("select[name=whose]", "own neurons")
        tab.fill("select[name=intervention]", "scale 2")
        params = {"target_language": "tr", "method": "neurons", "selection": "none", "factor": "2"}
        expected = httpx.get(f"{url}/v1/sweeps/{sweep_id}/samples", params=params).json()["data"]
        assert expected
        wanted = [sample["id"] for sample in expected]
        tab.until(f"JSON.stringify({ids}) === '{str(wanted).replace(' ', '').replace(chr(39), chr(34))}'")
        link = tab.run("location.href")
        texts = tab.run(
            "[...document.querySelectorAll('.samples li')].map((each) => ['.baseline', '.steered'].map((kind) =>"
            " [each.querySelector(`${kind} .text`).textContent, each.querySelector(`${kind} .text`).lang,"
            "  each.querySelector(`${kind} .text`).dir]))"
        )
        for sample, (unsteered, steered) in zip(expected, texts, strict=True):
            baseline = sample["baseline"]
            assert unsteered == [baseline["completion"] or baseline["prediction"] or "–", "en", "auto"]
            assert steered == [sample["completion"] or sample["prediction"] or "–", "tr", "auto"]
        tab.fill("select[name=correct]", "true")
        right = httpx.get(f"{url}/v1/sweeps/{sweep_id}/samples", params={**params, "correct": "true"}).json()["data"]
        tab.until(f"document.querySelectorAll('.samples li').length === {len(right)}")
        tab.open("about:blank")
        tab.open(link)
        tab.until(SAMPLE)
        assert tab.run("document.querySelector('select[name=target]').value") == "Turkish (tr)"
        assert tab.run(ids) == wanted
    assert tab.errors == []


def test_the_samples_of_one_neuron_are_found(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        body = {"model": "tiny", "neurons": {"fr": {"0": [1, 2]}, "tr": {"0": [3]}}}
        neurons = httpx.post(f"{url}/v1/neuron-sets", json=body).json()["id"]
        interventions = {"languages": ["fr"], "op": "set", "factors": [0], "neurons": "each"}
        spec = {**SPEC, "neurons": {"id": neurons}, "interventions": interventions}
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=spec).raise_for_status().json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until(SAMPLE)
        options = "[...document.querySelectorAll('select[name=intervention] option')].map((each) => each.value)"
        (one,) = [text for text in tab.run(options) if "neuron 1 of layer 0" in text]
        everything = tab.run("document.querySelectorAll('.samples li').length")
        tab.fill("select[name=intervention]", one)
        tab.until(f"document.querySelectorAll('.samples li').length < {everything}")
        about = tab.run("[...document.querySelectorAll('.samples .about')].map((each) => each.textContent)")
    assert about
    assert all("neuron 1 of layer 0" in text for text in about)
    assert tab.errors == []


def test_more_samples_are_loaded(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until(SAMPLE)
        total = len(httpx.get(f"{url}/v1/sweeps/{sweep_id}/samples", params={"limit": 1000}).json()["data"])
        assert total > 20
        tab.click("button[name=more]")
        tab.until(f"document.querySelectorAll('.samples li').length === {min(total, 40)}")


def test_two_sweeps_are_compared(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        first, second = (
            httpx.post(f"{url}/v1/sweeps", json={**SPEC, "name": name}).json()["id"] for name in ("one", "two")
        )
        tab.open(f"{url}/#sweeps/{second}")
        tab.until(f"document.querySelector('select[name=with] option[value={first}]')")
        tab.fill("select[name=with]", first)
        tab.until("document.querySelector('.compared tbody tr')")
        cells = tab.run(
            "[...document.querySelectorAll('.compared tbody tr')].map((row) =>"
            " [...row.children].map((cell) => cell.textContent))"
        )
        assert f"with={first}" in tab.run("location.hash")
    assert {(row[6], row[7]) for row in cells} == {("0.000", "overlap")}, "the same cells"
    assert all(row[4] == row[5] for row in cells)
    assert len(cells) > 4


def test_each_cell_is_compared_with_the_same_one(installation: Installation, tab: Browser) -> None:
    """Two cells that differ in any column that tells cells apart, such as the seed of random neurons, are no pair."""
    fixed = {"task": "xcopa", "metric": "accuracy", "mode": "corrected", "data_language": "en", "target_language": "fr"}
    edit = {"method": "neurons", "op": "set", "factor": 2.0, "layers": "all", "n": 40, "ci_low": 0.0, "ci_high": 90.0}
    cells: list[dict[str, Any]] = [
        {},
        *({"selection": "random", "random_seed": seed} for seed in (0, 1, 2)),
        *({"selection": "other", "control_language": language} for language in ("it", "tr")),
        *({"tokens": tokens} for tokens in ("end=8", "start=8", "decay=0.5")),
        *({"when": when} for when in ("drift", "drift, switch_on=1")),
        *({"part": part} for part in ("thinking", "answer")),
        *({"method": method, "op": None, "factor": None} for method in ("prompt_en", "prompt_native")),
        *({"method": method, "op": "add", "factor": 2.0} for method in ("diffmean", "diffmean_raw")),
        *({"neuron_layer": 0, "neuron_index": index} for index in (3, 4)),
        *({name: value} for name, value in {"layers": "3", "weights": "0.5", "patch": "max", "mode": "paper"}.items()),
        *({"statistic": "mean", "factor": factor} for factor in (1.0, 2.0)),
    ]
    this = [{**dict.fromkeys(SUMMARY.names), **fixed, **edit, **cell, "value": i} for i, cell in enumerate(cells)]
    other = [{**row, "value": row["value"] + 0.5} for row in reversed(this)]
    spec = {"model": "tiny", "neurons": {"id": "ns_1"}, "interventions": {"op": "set", "scope": "all"}}
    changed = {**spec, "model": "large", "interventions": {"op": "set", "scope": "prompt"}}
    sweeps = [{"id": "sweep_2", "name": "two", "status": "completed", "expired_at": None, "spec": changed}]
    with server_in_thread(installation, working=False) as (url, _):
        tab.open(f"{url}/#sweeps/sweep_1?with=sweep_2")
        tab.run(f"""(() => {{
            window.fetch = async (path) => Response.json(
                String(path).endsWith('/summary') ? {json.dumps({"rows": other})} : {json.dumps({"data": sweeps})});
            const sweep = {json.dumps({"id": "sweep_1", "spec": spec})};
            return import('/page/sweeps/compare.js').then(({{comparison}}) => document.querySelector('main')
                .replaceChildren(...comparison(sweep, {json.dumps(this)}, new AbortController().signal)));
        }})()""")
        tab.until("document.querySelector('.compared tbody tr')")
        rows = "[...document.querySelectorAll('.compared tbody tr')]"
        differences = tab.run(f"{rows}.map((row) => row.cells[6].textContent)")
        note = tab.run("document.querySelector('.compare .note').textContent")
    assert differences == ["0.500"] * len(cells)
    assert note == "The specs also differ in model, scope."


def test_steered_tokens_are_counted_from_one(installation: Installation, tab: Browser) -> None:
    spans = [[], [[0, 1]], [[21, 46], [60, 61]]]
    with server_in_thread(installation, working=False) as (url, _):
        tab.open(url)
        texts = tab.run(f"import('/page/format.js').then(({{spansText}}) => {spans}.map(spansText))")
    assert texts == ["no token steered", "steered tokens: 1", "steered tokens: 22 to 46, 61"]
