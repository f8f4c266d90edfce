"""The views of the web page that watch and show sweeps, in a browser."""

from __future__ import annotations

import json

import httpx
import pytest

from jobs.store.cell_state import MAX_ATTEMPTS
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation


@pytest.mark.processes
def test_a_sweep_is_followed_and_shown(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        sweep_id = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "name": "<i>mine</i>"}).json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until("document.querySelector('.heat-map td')")
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
        texts = tab.run("[...document.querySelectorAll('.heat-map td .value')].map((value) => value.textContent)")
        assert texts == [wanted[target] for target in sorted(wanted)]
        colours = tab.run("[...document.querySelectorAll('.heat-map td')].map((cell) => cell.className)")
        assert colours == ["up" if float(value) >= 0.5 else "down" for value in texts]
        assert "0.5" in tab.run("document.querySelector('.heat-map caption').textContent")
        facts = tab.run("document.querySelector('.facts').textContent")
        assert sweep_id in facts
        assert "Submitted" in facts
        assert "Ended" in facts
        assert tab.run("document.querySelector('a.report').pathname") == f"/v1/sweeps/{sweep_id}/report"
        assert tab.run("document.querySelector('a.clone').hash") == f"#new?from={sweep_id}"
        tab.run("location.hash = 'sweeps'")
        tab.until("document.querySelector('.sweeps tbody a')")
        assert tab.run("document.querySelector('.sweeps tbody a').textContent") == "<i>mine</i>"
    assert tab.errors == []


@pytest.mark.processes
def test_sweeps_are_found_by_name_model_or_id(installation: Installation, tab: Browser) -> None:
    names = "[...document.querySelectorAll('.sweeps tbody a')].map((link) => link.textContent)"
    with server_in_thread(installation, working=False) as (url, _):
        one, _ = (httpx.post(f"{url}/v1/sweeps", json={**SPEC, "name": name}).json()["id"] for name in ("One", "two"))
        tab.open(f"{url}/#sweeps?search=ONE")
        tab.until("document.querySelector('.sweeps tbody a')")
        assert tab.run(names) == ["One"]
        for text, expected in ((one, ["One"]), ("tiny", ["two", "One"]), ("three", [])):
            tab.fill("input[name=search]", text)
            tab.until(f"JSON.stringify({names}) === '{json.dumps(expected, separators=(',', ':'))}'")
        assert "No sweep matches" in tab.run("document.querySelector('main').textContent")
        assert "search=three" in tab.run("location.hash")


@pytest.mark.processes
def test_sweeps_are_tagged_renamed_and_deleted_in_the_list(installation: Installation, tab: Browser) -> None:
    names = "[...document.querySelectorAll('.sweeps tbody a')].map((link) => link.textContent)"

    def shows(*expected: str) -> None:
        tab.until(f"JSON.stringify({names}) === '{json.dumps(expected, separators=(',', ':'))}'")

    def button(name: str, sweep_id: str) -> str:
        return f".sweeps button[data-key='{name} {sweep_id}']"

    with server_in_thread(installation, working=False) as (url, _):
        one, two = (httpx.post(f"{url}/v1/sweeps", json={**SPEC, "name": name}).json()["id"] for name in ("one", "two"))
        httpx.post(f"{url}/v1/sweeps/{one}/cancel").raise_for_status()
        tab.open(f"{url}/#sweeps")
        shows("two", "one")
        assert tab.run(f'document.querySelector("{button("delete", two)}") === null'), "it has not ended"
        tab.run(f'document.querySelector("{button("edit", one)}").focus()')
        tab.click(button("edit", one))
        tab.fill("input[name=sweep-name]", "<b>uno</b>")
        tab.fill("input[name=tags]", "paper, qwen,paper")
        tab.click("button[name=confirm]")
        shows("two", "<b>uno</b>")
        assert httpx.get(f"{url}/v1/sweeps/{one}").json()["tags"] == ["paper", "qwen"]
        tab.until(f"document.activeElement.dataset.key === 'edit {one}'")  # the focus is where it was
        tab.click(button("qwen", one))
        shows("<b>uno</b>")
        assert "tag=qwen" in tab.run("location.hash")
        assert tab.run("document.querySelector('select[name=tag]').value") == "qwen"
        tab.click(button("edit", one))
        tab.fill("input[name=tags]", "x" * 65)
        tab.click("button[name=confirm]")
        tab.until("document.querySelector('dialog .error')")
        assert "1 to 64 characters" in tab.run("document.querySelector('dialog .error').textContent")
        tab.click("button[name=dismiss]")
        tab.until("document.querySelector('dialog') === null")
        tab.click(button("delete", one))
        assert "<b>uno</b>" in tab.run("document.querySelector('dialog h2').textContent")
        tab.click("button[name=dismiss]")
        tab.until("document.querySelector('dialog') === null")
        assert httpx.get(f"{url}/v1/sweeps/{one}").status_code == 200
        tab.click(button("delete", one))
        tab.click("button[name=confirm]")
        tab.until("document.querySelector('main').textContent.includes('No sweep matches')")
        assert httpx.get(f"{url}/v1/sweeps/{one}").status_code == 404
        tab.fill("select[name=tag]", "")
        shows("two")


@pytest.mark.processes
def test_a_sweep_is_renamed_and_deleted_in_its_view(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until("document.querySelector('.heat-map td')")
        tab.click("button[name=edit]")
        tab.fill("input[name=sweep-name]", "renamed")
        tab.fill("input[name=tags]", "paper")
        tab.click("button[name=confirm]")
        tab.until("document.querySelector('main h2').textContent === 'renamed'")
        assert "paper" in tab.run("document.querySelector('.facts').textContent")
        assert tab.run("document.querySelector('.heat-map td') !== null"), "the results stay"
        tab.click("button[name=delete]")
        tab.click("button[name=confirm]")
        tab.until("location.hash === '#sweeps' && document.querySelector('main').textContent.includes('No sweep')")
    assert tab.errors == []


@pytest.mark.processes
def test_a_sweep_is_paused_resumed_and_cancelled(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        sweep = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()
        tab.open(f"{url}/#sweeps/{sweep['id']}")
        for button, status in (("pause", "paused"), ("resume", "in progress"), ("cancel", "cancelled")):
            tab.until(f"document.querySelector('main button[name={button}]')")
            tab.click(f"main button[name={button}]")
            if button == "cancel":
                tab.until("document.querySelector('dialog[open]')")
                assert "cannot be resumed" in tab.run("document.querySelector('dialog').textContent")
                tab.click("button[name=confirm]")
            tab.until(f"document.querySelector('.status').textContent === '{status}'")
            assert httpx.get(f"{url}/v1/sweeps/{sweep['id']}").json()["status"] == status.replace(" ", "_")
        assert tab.run("document.querySelectorAll('main .progress ~ button').length") == 0


@pytest.mark.processes
def test_failures_are_amber_and_have_reasons(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation, max_model_len=55) as (url, _):
        tasks = [{"name": "lss", "languages": ["en", "fr"], "limit": 12}]
        sweep = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "tasks": tasks}).json()
        tab.open(f"{url}/#sweeps/{sweep['id']}")
        tab.until("document.querySelector('.heat-map td') && document.querySelector('details.failures')")
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


FAILS = " pays "
"""A text in each French question, and in no other."""
FAILURES = """[...document.querySelectorAll('details.failures tbody tr')].map((row) =>
    [...row.children].map((cell) => cell.textContent))"""


@pytest.mark.processes
def test_cells_that_failed_show_their_reasons_and_are_computed_by_a_retry(
    installation: Installation, tab: Browser
) -> None:
    with server_in_thread(installation, fail_on=FAILS) as (url, _):
        neurons = {"fr": {"0": [1, 2]}, "tr": {"0": [2, 3]}}
        imported = httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).json()["id"]
        tasks = [{"name": "lss", "languages": ["en", "fr"], "limit": 4}]
        body = {**SPEC, "neurons": {"id": imported}, "tasks": tasks}
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=body).json()["id"]
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until("document.querySelector('.heat-map td') && document.querySelector('details.failures')")
        cells = httpx.get(f"{url}/v1/sweeps/{sweep_id}/cells", params={"limit": 100}).json()["data"]
        failed = [cell for cell in cells if cell["status"] == "failed"]
        assert {cell["task"]["data_language"] for cell in failed} == {"fr"}
        assert {cell["attempts"] for cell in failed} == {MAX_ATTEMPTS}
    with server_in_thread(installation) as (url, _):  # the cause is gone
        tab.open(f"{url}/#sweeps/{sweep_id}")
        tab.until("document.querySelector('details.failures summary')")
        tab.click("details.failures summary")
        tab.until("document.querySelector('details.failures tbody tr')")
        shown = tab.run(FAILURES)
        expected = [(cell["id"], "the cell", cell["error"]) for cell in failed]
        assert [(row[0], row[3], row[4]) for row in shown] == expected
        assert all("the fake engine fails on this text" in row[4] for row in shown)
        assert {row[1] for row in shown} == {"lss fr"}
        assert {"", "tr scale × 2", "tr scale × 0.5, random"} <= {row[2] for row in shown}
        tab.click("button[name=retry]")
        tab.until(f"location.hash.startsWith('#sweeps/') && !location.hash.includes('{sweep_id}')")
        tab.until("document.querySelector('.status')?.textContent === 'completed'")
        new_id = tab.run("location.hash").removeprefix("#sweeps/")
        sweep = httpx.get(f"{url}/v1/sweeps/{new_id}").json()
    counts = sweep["request_counts"]
    assert (counts["failed"], counts["completed"], counts["reused"]) == (0, len(cells), len(cells) - len(failed))
    assert sweep["errors"] == []


@pytest.mark.processes
def test_the_pace_and_the_search_for_neurons_are_shown(installation: Installation, tab: Browser) -> None:
    finding = {
        "language": "fr",
        "languages": 3,
        "languages_done": 1,
        "tokens": 1000,
        "total_tokens": 4000,
        "tokens_per_second": 50.0,
        "seconds_left": 60.0,
    }
    with server_in_thread(installation) as (url, _):
        tab.open(url)
        texts = tab.run(
            "import('/page/sweeps/live.js').then(({pace}) => {"
            "  let now = 0; const tracked = pace(() => now);"
            "  const counts = (completed) => ({request_counts: {total: 40, completed, failed: 0}});"
            "  const texts = [tracked.text(counts(10))];"
            "  now = 30000; texts.push(tracked.text(counts(20)));"
            f"  tracked.event({{type: 'cell.finding_neurons', data: {json.dumps(finding)}}});"
            "  texts.push(tracked.text(counts(20)));"
            "  tracked.event({type: 'cell.completed', data: counts(21)});"
            "  texts.push(tracked.text(counts(21)));"
            "  const stage = {text: 'waiting for an engine: tiny is starting', progress: null};"
            "  const waiting = {...counts(21), stage};"
            f"  const found = {{...counts(21), stage: {{text: 'finding', progress: {json.dumps(finding)}}}}};"
            "  return [...texts, tracked.text(waiting), tracked.text(found)]; })"
        )
    assert texts[0] == ""
    assert texts[1] == "20 cells a minute, about 1 min 0 s left"
    assert texts[2] == "finding neurons: fr, 1 of 3 languages, 1,000 of 4,000 tokens, 50 tokens/s, about 1 min 0 s left"
    assert texts[3].startswith("22 cells a minute")
    assert texts[4:] == ["waiting for an engine: tiny is starting", texts[2]], "the stage that the sweep has goes first"
