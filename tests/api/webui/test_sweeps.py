"""The views of the web page that submit, watch and show sweeps, in a browser."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import pytest

from ampsweep.domain.intervention import VECTORS, Selection
from ampsweep.domain.neuron_set import SpecMethod
from jobs.instruction import PromptMethod
from jobs.spec import parse_spec
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation


def send(tab: Browser, url: str, **changes: str) -> None:
    """Open the list of sweeps and submit one there."""
    tab.open(f"{url}/#sweeps")
    tab.until("document.querySelector('.new textarea')")
    tab.fill(".new textarea", json.dumps({**SPEC, **changes}))
    tab.click(".new button")


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
                const label = document.createElement('span');
                label.className = 'status'; label.dataset.status = '{status}'; label.dataset.failures = '{failures}';
                document.querySelector('main').append(label);
                return getComputedStyle(label).color;
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
