"""The web page in several tabs on one server, in tabs that are hidden, and reloaded in the middle of an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

READY = "document.querySelector('.languages input[type=checkbox]')"
ENDED = "document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')"
FOOTERS = "[...document.querySelectorAll('.lane footer')].map((footer) => footer.textContent)"
STATUS = "document.querySelector('.status')?.dataset.status"
HIDE = """(() => {
    Object.defineProperty(document, 'hidden', {value: %s, configurable: true});
    document.dispatchEvent(new Event('visibilitychange'));
})()"""
COUNT_EVENT_STREAMS = """(() => {
    const send = window.fetch;
    window.streams = {opened: 0, aborted: 0, lastIds: []};
    window.fetch = (path, options) => {
        if (String(path).endsWith('/events')) {
            window.streams.opened += 1;
            window.streams.lastIds.push(Number(options.headers['Last-Event-ID']));
            options.signal.addEventListener('abort', () => (window.streams.aborted += 1));
        }
        return send(path, options);
    };
})()"""


def add_neurons(url: str, neurons: dict[str, Any]) -> None:
    httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def wait(tab: Browser, is_so: Callable[[], bool]) -> None:
    """Wait until something of the server is so."""
    for _ in range(300):
        if is_so():
            return
        tab.run("new Promise((resolve) => setTimeout(resolve, 50))")
    pytest.fail("it did not become so")


def test_a_reload_in_the_middle_of_an_answer_aborts_it_and_keeps_the_form(
    installation: Installation, tab: Browser
) -> None:
    with server_in_thread(installation, seconds_per_step=0.02) as (url, _):
        add_neurons(url, {"fr": {"0": [1]}, "tr": {"0": [2]}})
        tab.open(f"{url}/#steer?languages=tr&factor=4")
        tab.until(READY)
        tab.fill("textarea[name=prompt]", "Half an answer")
        tab.fill("input[name=tokens]", "2000")
        tab.click("button.main")
        tab.until("document.querySelector('.lane .text')?.textContent")
        assert metric(url, "ampsweep_engine_streams") == 2
        tab.reload()
        tab.until(READY)
        wait(tab, lambda: metric(url, "ampsweep_engine_streams") == 0)
        assert tab.run("document.querySelector('.lane')") is None
        assert tab.run("document.querySelector('textarea[name=prompt]').value") == "Half an answer"
        assert tab.run("document.querySelector('input[name=factor]').value") == "4"
        tab.fill("input[name=tokens]", "3")
        tab.click("button.main")
        tab.until(ENDED)
        assert [text.partition(" in ")[0] for text in tab.run(FOOTERS)] == ["3 tokens"] * 2
    assert tab.errors == []


def test_two_tabs_steer_and_follow_the_same_server(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, seconds_per_step=0.005) as (url, _), tab.another() as other:
        add_neurons(url, {"fr": {"0": [1]}, "tr": {"0": [2]}})
        for each, language in ((tab, "fr"), (other, "tr")):
            each.open(f"{url}/#steer?languages={language}")
            each.until(READY)
            each.fill("input[name=tokens]", "60")
            each.click("button.main")
        for each, language in ((tab, "fr"), (other, "tr")):
            each.until(ENDED)
            assert [text.partition(" in ")[0] for text in each.run(FOOTERS)] == ["60 tokens"] * 2
            assert each.run("document.querySelectorAll('.lane')[1].dataset.language") == language
        sweep = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "name": "both"}).json()
        for each in (tab, other):
            each.run(f"location.hash = 'sweeps/{sweep['id']}'")
        for each in (other, tab):
            each._call("Page.bringToFront")
            each.until(f"{STATUS} === 'completed'")
            assert each.run("document.title") == "both – Ampsweep"
        other.run("location.hash = 'sweeps'")
        other.until("document.querySelector('.sweeps tbody a')")
        assert other.run("document.title") == "Sweeps – Ampsweep"
        httpx.delete(f"{url}/v1/sweeps/{sweep['id']}").raise_for_status()
        other._call("Page.bringToFront")
        other.until("!document.querySelector('.sweeps tbody a')")
    assert tab.errors == []


def test_a_hidden_tab_follows_no_events_and_goes_on_where_it_was(installation: Installation, tab: Browser) -> None:
    """A browser opens six connections to a server for all of its tabs: if seven followed sweeps, one would hang."""
    with server_in_thread(installation, working=False) as (url, _):
        sweep = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()
        tab.open(f"{url}/#new")
        tab.run(COUNT_EVENT_STREAMS)
        tab.run(f"location.hash = 'sweeps/{sweep['id']}'")
        tab.until("window.streams.opened === 1")
        wait(tab, lambda: metric(url, "ampsweep_http_streams") == 1)
        tab.run(HIDE % "true")
        wait(tab, lambda: metric(url, "ampsweep_http_streams") == 0)
        httpx.post(f"{url}/v1/sweeps/{sweep['id']}/pause").raise_for_status()
        tab.run("new Promise((resolve) => setTimeout(resolve, 1500))")
        assert tab.run("window.streams") == {"opened": 1, "aborted": 1, "lastIds": [0]}
        assert tab.run(STATUS) == "in_progress"
        assert tab.run("document.querySelector('main .error')") is None, "it was not lost"
        tab.run(HIDE % "false")
        tab.until(f"{STATUS} === 'paused' && window.streams.opened === 2")
        assert tab.run("window.streams.lastIds[1]") >= 1, "events are not sent again"


def test_what_another_tab_has_made_is_offered_when_the_tab_is_shown(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        add_neurons(url, {"fr": {"0": [1]}, "tr": {"0": [2]}})
        tab.open(f"{url}/#steer?languages=tr")
        tab.until(READY)
        tab.run(HIDE % "true")
        add_neurons(url, {"fr": {"1": [3]}, "tr": {"1": [4]}})
        preset = {"name": "mine", "intervention": {"languages": ["fr"], "op": "scale", "factor": 2}}
        httpx.post(f"{url}/v1/interventions", json=preset).raise_for_status()
        tab.run(HIDE % "false")
        tab.until("document.querySelectorAll('select[name=neurons] option').length >= 2")
        tab.until("[...document.querySelector('select[name=preset]').options].some(({value}) => value === 'mine')")
        assert tab.run("document.querySelector('input[name=language][value=tr]').checked")
        assert not tab.run("document.querySelector('input[name=language][value=fr]').checked")


def test_the_keyboard_stays_in_the_view_and_the_page_at_its_top(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        for number in range(40):
            spec = {**SPEC, "name": f"sweep {number}"}
            httpx.post(f"{url}/v1/sweeps", json=spec).raise_for_status()
        tab.open(f"{url}/#sweeps")
        tab.until("document.querySelectorAll('.sweeps tbody tr').length === 40")
        last = "document.querySelector('.sweeps tbody tr:last-child a')"
        tab.run(f"{last}.focus(); {last}.scrollIntoView({{behavior: 'instant'}})")
        assert tab.run("scrollY") > 0
        tab.press("Enter", 13, text="\r")
        tab.until("document.querySelector('.facts')")
        assert tab.run("scrollY") == 0
        assert tab.run("document.activeElement.id") == "view", "the next Tab reaches the first control of the view"
        tab.press("Tab", 9)
        assert tab.run("document.activeElement.textContent") == "All sweeps"
