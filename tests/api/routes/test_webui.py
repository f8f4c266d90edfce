"""The web page: its files, who may load it, and its behaviour in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from ampsweep.domain.intervention import OPS, PATCHES, VECTORS, Intervention, Scope, Selection
from ampsweep.domain.neuron_set import SpecMethod
from ampsweep.domain.statistic import EXAMPLES
from api.auth.api_keys import KeyScope
from api.auth.authentication import ALWAYS_OPEN
from api.routes.webui import PAGE_PATHS
from jobs.instruction import PromptMethod
from jobs.results.schema import SUMMARY
from jobs.spec import parse_spec
from tests.api.browser import Browser, browser
from tests.api.running_server import running_server
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

FOLDER = Path("api/webui")

LANES = """[...document.querySelectorAll('.lane')].map((lane) =>
    [lane.dataset.language, ...['.text', 'footer'].map((part) => lane.querySelector(part).textContent)])"""


RECORD_BODIES = """(() => {
    window.bodies = [];
    const send = window.fetch;
    window.fetch = (path, options) => {
        if (String(path).includes('completions')) window.bodies.push(JSON.parse(options.body));
        return send(path, options);
    };
})()"""


@pytest.mark.anyio
async def test_the_page_loads_only_its_own_scripts(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        for path in PAGE_PATHS:
            answer = await server.http.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        index = (await server.http.get("/")).text
        assert not re.search(r"<script(?! type=\"module\" src)|<style| on\w+=", index), (
            "nothing stands in the page itself"
        )
        assert (await server.http.get("/page/nothing.js")).status_code == 404


def test_the_page_refers_only_to_existing_parts_of_this_server() -> None:
    parts = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert {path for path in PAGE_PATHS if path != "/"} == {f"/page/{name}" for name in parts}
    for name, text in parts.items():
        for other in re.findall(r"(?:from \"\./|\"page/)([\w.]+)\"", text):
            assert other in parts, f"{name} names {other}"
        assert set(re.findall(r"https?://[^\"'\s]+", text)) <= {"http://www.w3.org/2000/svg"}, name


@pytest.mark.anyio
async def test_with_keys_the_page_needs_a_key(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        _, reads = server.key(KeyScope.READ)
        assert (await server.http.get("/")).status_code == 401
        assert (await server.http.get("/", headers=reads)).status_code == 200


@pytest.mark.anyio
async def test_the_page_can_be_public_without_opening_anything_else(installation: Installation) -> None:
    async with running_server(installation, working=False, open_paths=ALWAYS_OPEN | PAGE_PATHS) as server:
        server.key(KeyScope.READ)
        for path in PAGE_PATHS:
            assert (await server.http.get(path)).status_code == 200, path
        for path in ("/page/", "/page/x.js", "/v1/models", "/v1/sweeps", "/metrics"):
            assert (await server.http.get(path)).status_code == 401, path


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


@pytest.fixture
def tab(opened: Browser) -> Browser:
    """The tab, without the errors and the page of an earlier test, which would keep polling its stopped server."""
    opened.open("about:blank")
    opened.errors.clear()
    return opened


def send(tab: Browser, url: str, **changes: str) -> None:
    """Open the list of sweeps and submit one there."""
    tab.open(f"{url}/#sweeps")
    tab.until("document.querySelector('.new textarea')")
    tab.fill(".new textarea", json.dumps({**SPEC, **changes}))
    tab.click(".new button")


def complete(url: str, body: dict[str, Any]) -> str:
    text: str = httpx.post(f"{url}/v1/completions", json=body).json()["choices"][0]["text"]
    return text


@pytest.mark.processes
def test_a_prompt_is_steered_side_by_side(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages input[name=corpus]')")
        tab.fill(".languages input[name=codes]", "en, fr, tr")
        tab.click(".languages button")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        tab.fill("textarea[name=prompt]", "<b>One</b> & two")
        tab.fill("select[name=control]", "random")
        tab.click("button.main")
        tab.until("document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')")
        texts = tab.run(LANES)
        (neurons,) = httpx.get(f"{url}/v1/neuron-sets").json()["data"]
        completion = {"model": "tiny", "prompt": "<b>One</b> & two", "max_tokens": 40, "temperature": 0, "seed": 0}
        for index, (language, text, note) in enumerate(texts):
            intervention = {
                "languages": [language],
                "op": "set",
                "factor": 3,
                "selection": [None, "random"][1 - index % 2],
            }
            steered = {"intervention": intervention, "neurons": neurons["id"]} if language else {}
            assert text == complete(url, completion | steered).lstrip(), language
            assert note.startswith("40 tokens in ")
            assert note.endswith(f", steered by {neurons['id']}") is bool(language)
        steered_to = [language for language, _, _ in texts]
        with_neurons = [code for code, count in neurons["languages"].items() if count and code != "en"]
        assert steered_to == ["", *[code for code in with_neurons for _ in range(2)]]
        sweep_object = json.loads(tab.run("document.querySelector('details pre').textContent.match(/-d '(.*)'$/s)[1]"))
        assert sweep_object["prompt"] == completion["prompt"]
        assert sweep_object["intervention"]["languages"] == steered_to[1:2]
    assert tab.errors == []


@pytest.mark.processes
def test_the_page_offers_everything_that_an_intervention_can_be(installation: Installation, tab: Browser) -> None:
    def values(name: str) -> list[str]:
        options: list[str] = tab.run(f"[...document.querySelector('select[name={name}]').options].map((o) => o.value)")
        return options

    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('form.steer')")
        values_of = {"patch": PATCHES, "statistic": EXAMPLES, "vector": VECTORS}
        magnitudes = [f"{field}:{value}" for field, values in values_of.items() for value in values]
        assert sorted(values("op")) == sorted(OPS)
        assert sorted(values("magnitude")) == sorted([":", *magnitudes])
        assert sorted(values("control")) == sorted(["", *get_args(Selection)])
        assert sorted(values("scope")) == sorted(get_args(Scope))
        tab.until("document.querySelector('select[name=method]')")
        assert sorted(values("method")) == sorted(get_args(SpecMethod))


@pytest.mark.processes
def test_the_form_of_a_new_sweep_offers_every_method_control_and_baseline(
    installation: Installation, tab: Browser
) -> None:
    def checkboxes(name: str) -> list[str]:
        boxes: list[str] = tab.run(f"[...document.querySelectorAll('input[name={name}]')].map((box) => box.value)")
        return boxes

    def spec() -> Any:
        return json.loads(tab.run("document.querySelector('.new textarea').value"))

    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelector('.new')")
        tab.click(".new summary")
        tab.until("document.querySelector('input[name=spec-baselines]')")
        methods = tab.run("[...document.querySelector('select[name=spec-method]').options].map((o) => o.value)")
        assert sorted(methods) == sorted(get_args(SpecMethod))
        assert sorted(checkboxes("spec-controls")) == sorted((*get_args(Selection), "repeat"))
        assert sorted(checkboxes("spec-baselines")) == sorted((*get_args(PromptMethod), *VECTORS))
        before = spec()
        tab.fill("select[name=spec-method]", "average_precision")
        tab.fill("select[name=spec-op]", "add")
        tab.fill("select[name=spec-magnitude]", "patch:difference")
        for name, value in (
            ("controls", "random"),
            ("controls", "zero"),
            ("baselines", "prompt_native"),
            ("baselines", "diffmean"),
        ):
            tab.click(f"input[name=spec-{name}][value={value}]")
        changed = spec()
        assert changed["neurons"] == {"method": "average_precision"} | {
            key: value for key, value in before["neurons"].items() if key in ("corpus", "languages")
        }
        interventions = changed["interventions"]
        assert (interventions["op"], interventions["patch"]) == ("add", ["difference"])
        assert interventions["controls"] == ["zero"], "random was checked before"
        assert interventions["baselines"] == ["prompt_native", {"method": "diffmean", "factors": [2, 4, 8]}]
        parse_spec(changed)
        tab.click("input[name=spec-baselines][value=diffmean]")
        assert spec()["interventions"]["baselines"] == ["prompt_native"]
    assert tab.errors == []


@pytest.mark.processes
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"op": "add", "magnitude": "patch:difference"}, {"op": "add", "factor": 3, "patch": "difference"}),
        ({"op": "add", "magnitude": "vector:diffmean"}, {"op": "add", "factor": 3, "vector": "diffmean"}),
        ({"op": "scale", "magnitude": "patch:max"}, {"op": "scale", "factor": 3}),
        ({"op": "add", "magnitude": "statistic:p97.5"}, {"op": "add", "factor": 3, "statistic": "p97.5"}),
        ({"scope": "prompt"}, {"op": "set", "factor": 3, "scope": "prompt"}),
        ({"control": "zero"}, {"op": "set", "factor": 0, "selection": "zero"}),
        ({"control": "other"}, {"op": "set", "factor": 3, "selection": "other", "other": "tr"}),
    ],
)
def test_the_page_sends_a_valid_intervention(
    installation: Installation, tab: Browser, changes: dict[str, str], expected: dict[str, Any]
) -> None:
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        tab.run(RECORD_BODIES)
        for name, value in changes.items():
            tab.fill(f"select[name={name}]", value)
        tab.click("button.main")
        tab.until("document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')")
        bodies = tab.run("window.bodies")
    sent = [body["intervention"] for body in bodies if "intervention" in body]
    assert {"languages": ["fr"], **expected} in sent
    for intervention in sent:
        Intervention.from_dict(intervention)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("metric", "higher_is_better", "delta", "colour"),
    [
        ("accuracy", True, 0.1, "up"),
        ("accuracy", True, -0.1, "down"),
        ("nll", False, -0.1, "up"),
        ("perplexity", False, 0.1, "down"),
        ("length", None, 0.1, "neutral"),
    ],
)
def test_a_heat_map_shows_an_improvement_green_whatever_its_direction(
    installation: Installation, tab: Browser, metric: str, higher_is_better: bool | None, delta: float, colour: str
) -> None:
    row = {
        **dict.fromkeys(SUMMARY.names),
        "task": "xcopa",
        "metric": metric,
        "data_language": "fr",
        "target_language": "fr",
        "op": "set",
        "factor": 2.0,
        "layers": "all",
        "n": 40,
        "value": 2.5,
        "ci_low": 2.4,
        "ci_high": 2.6,
        "delta": delta,
        "delta_ci_low": delta - 0.05,
        "delta_ci_high": delta + 0.05,
        "higher_is_better": higher_is_better,
    }
    with server_in_thread(installation) as (url, _):
        tab.open(url)
        cell = tab.run(
            "import('/page/heat_maps.js').then(({heatMaps}) => {"
            f"  const [, map] = heatMaps([{json.dumps(row)}]);"
            "  const cell = map.querySelector('tbody td');"
            "  return [cell.className, cell.title, map.querySelector('caption').textContent];})"
        )
    difference = f"{delta:+.3f} (95 % {delta - 0.05:.3f} to {delta + 0.05:.3f})"
    assert cell[:2] == [colour, f"2.500 (95 % 2.400 to 2.600); difference {difference}; 40 items"]
    assert "difference from the unsteered model" in cell[2]


@pytest.mark.processes
def test_with_several_neuron_sets_the_default_is_selected_or_must_be_chosen(
    installation: Installation, tab: Browser
) -> None:
    with server_in_thread(installation) as (url, _):
        first, second = (
            httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": {"fr": {"0": [index]}}}).json()["id"]
            for index in (1, 2)
        )
        tab.open(f"{url}/#steer")
        tab.errors.clear()  # those of an earlier test's page, whose server is gone
        tab.until("document.querySelector('.languages .error')")
        assert "choose one" in tab.run("document.querySelector('.languages .error').textContent")
        assert tab.run("document.querySelector('select[name=neurons]').value") == ""
        tab.fill("select[name=neurons]", second)
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        httpx.put(f"{url}/v1/models/tiny/default-neuron-set", json={"neuron_set": first}).raise_for_status()
        tab.open(f"{url}/?#steer")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        assert tab.run("document.querySelector('select[name=neurons]').value") == first
    assert tab.errors == []


@pytest.mark.processes
def test_a_sweep_is_submitted_followed_and_shown(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        send(tab, url, name="<i>mine</i>")
        tab.until("document.querySelector('.map td')")
        sweep_id = tab.run("location.hash").removeprefix("#sweeps/")
        assert tab.run("document.querySelector('main h2').textContent") == "<i>mine</i>"
        assert tab.run("document.querySelector('.status').textContent") == "completed"
        warnings = httpx.get(f"{url}/v1/sweeps/{sweep_id}").json()["warnings"]
        assert tab.run("[...document.querySelectorAll('.warning')].map((each) => each.textContent)") == warnings
        tab.fill("select[name=shape]", "scale 2")
        rows = httpx.get(f"{url}/v1/sweeps/{sweep_id}/summary").json()["rows"]
        (seed,) = {row["random_seed"] for row in rows if row["selection"] == "random"}
        tab.fill("select[name=selection]", f"random (seed {seed})")
        wanted = {
            row["target_language"]: f"{row['value']:.2f}"
            for row in rows
            if (row["metric"], row["factor"], row["selection"]) == ("lss", 2.0, "random")
        }
        texts = tab.run("[...document.querySelectorAll('.map tbody td')].map((cell) => cell.textContent)")
        assert texts == [wanted[target] for target in sorted(wanted)]
        colours = tab.run("[...document.querySelectorAll('.map tbody td')].map((cell) => cell.className)")
        assert colours == ["up" if float(value) >= 0.5 else "down" for value in texts]
        assert "0.5" in tab.run("document.querySelector('.map caption').textContent")
        tab.run("location.hash = 'sweeps'")
        tab.until("document.querySelector('.sweeps tbody a')")
        assert tab.run("document.querySelector('.sweeps tbody a').textContent") == "<i>mine</i>"
    assert tab.errors == []


@pytest.mark.processes
def test_a_sweep_is_paused_resumed_and_cancelled(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        sweep = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()
        tab.open(f"{url}/#sweeps/{sweep['id']}")
        for button, status in (("pause", "paused"), ("resume", "in progress"), ("cancel", "cancelled")):
            tab.until(f"document.querySelector('main button[name={button}]')")
            tab.click(f"main button[name={button}]")
            tab.until(f"document.querySelector('.status').textContent === '{status}'")
            assert httpx.get(f"{url}/v1/sweeps/{sweep['id']}").json()["status"] == status.replace(" ", "_")
        assert tab.run("document.querySelectorAll('main button').length") == 0


@pytest.mark.processes
def test_the_page_shows_the_servers_error_messages(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        send(tab, url, model="nobody")
        tab.until("document.querySelector('.new .error')")
        assert tab.run("document.querySelector('.new .error').textContent").startswith("model: ")


@pytest.mark.processes
def test_the_page_works_with_a_key(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, open_paths=ALWAYS_OPEN | PAGE_PATHS) as (url, server):
        _, headers = server.key(KeyScope.ADMIN)
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.error')")
        assert "API key" in tab.run("document.querySelector('.error').textContent")
        tab.fill("#key input", headers["Authorization"].removeprefix("Bearer "))
        tab.until("document.querySelector('form.steer')")
        tab.run("sessionStorage.clear()")


@pytest.mark.processes
def test_failures_are_amber_and_have_reasons(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation, max_model_len=55) as (url, _):
        tasks = [{"name": "lss", "languages": ["en", "fr"], "limit": 12}]
        sweep = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "tasks": tasks}).json()
        tab.open(f"{url}/#sweeps/{sweep['id']}")
        tab.until("document.querySelector('.map td') && document.querySelector('details.failures')")
        sweep_object = httpx.get(f"{url}/v1/sweeps/{sweep['id']}").json()
        failing = httpx.get(f"{url}/v1/sweeps/{sweep['id']}/cells?failures=true").json()["data"]
        assert tab.run("document.querySelector('.status').textContent") == "completed with failures"
        assert tab.run("document.querySelector('p.failures').textContent") == sweep_object["errors"][0]["message"]
        amber, red, green = (
            tab.run(f"""(() => {{
                const probe = document.createElement('span');
                probe.className = 'status'; probe.dataset.status = '{status}'; probe.dataset.failures = '{failures}';
                document.querySelector('main').append(probe);
                return getComputedStyle(probe).color;
            }})()""")
            for status, failures in (("completed", "true"), ("failed", "true"), ("completed", "false"))
        )
        assert tab.run("getComputedStyle(document.querySelector('.status')).color") == amber
        assert len({amber, red, green}) == 3
        tab.click("details.failures summary")
        tab.until("document.querySelector('details.failures tbody tr')")
        texts = tab.run(
            "[...document.querySelectorAll('details.failures tbody tr')].map((row) => row.lastChild.textContent)"
        )
        assert texts == [cell["sample_error"] for cell in failing]
    assert tab.errors == []
