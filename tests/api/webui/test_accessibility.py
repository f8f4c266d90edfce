"""Accessibility of the web page by axe-core: WCAG 2.1 A and AA, in both schemes, on a desk and on a phone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

AXE = gzip.decompress((Path(__file__).parent / "axe" / "axe.min.js.gz").read_bytes()).decode()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
WIDTHS = (1440, 390)
MAX_STOPS = 300
"""More stops of the Tab key than a view has."""
SHOWN = {
    "steer": "document.querySelector('.languages input[type=checkbox]')",
    "sweeps": "document.querySelector('.sweeps tbody a')",
    "sweep": "document.querySelector('.samples li') && document.querySelector('.profile td')",
    "new": "document.querySelector('.plan tfoot')",
}


@pytest.fixture(autouse=True)
def _usual_window(tab: Browser) -> Iterator[None]:
    yield
    tab.show_as(width=1280)


def violations(tab: Browser) -> list[Any]:
    """Return the rules that the page breaks, with the elements that break them."""
    tab.run(f"window.axe ? 0 : (() => {{ {AXE}; return 0; }})()")
    script = f"axe.run(document, {{runOnly: {json.dumps(TAGS)}}}).then(({{violations}}) => violations.map("
    script += (
        "({id, nodes}) => [id, ...nodes.slice(0, 5).map(({target, failureSummary}) => [target, failureSummary])]))"
    )
    found: list[Any] = tab.run(script)
    return found


def fill_drift(tab: Browser) -> None:
    """Let the answers of the fake engine be steered in part; the form of a sweep with scored texts rejects it."""
    tab.fill("select[name=when]", "drift")
    for name, value in {"min_characters": 20, "every": 10, "confidence": 0}.items():
        tab.fill(f"input[name=drift-{name}]", str(value))


def show(tab: Browser, url: str, view: str, sweep_id: str) -> None:
    tab.open("about:blank")
    tab.open(f"{url}/#{view if view != 'sweep' else f'sweeps/{sweep_id}'}")
    tab.until(SHOWN[view])
    if view in {"steer", "new"}:
        fill_drift(tab)
    if view == "steer":
        tab.click("button.main")
        tab.until("document.querySelector('.tag') && document.querySelectorAll('details.tokens').length === 2")
        assert tab.run("document.querySelectorAll('.lane mark.steered').length") == 2
    if view == "new":
        for name in ("tokens", "when", "part"):
            tab.click(f"button[name=add-{name}]")
        tab.until("document.querySelector('#finer-error .error') && document.querySelector('[aria-invalid]')")
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@pytest.mark.parametrize("view", SHOWN)
def test_a_view_has_no_violations_and_does_not_scroll_sideways(
    installation: Installation, tab: Browser, view: str
) -> None:
    failing = {} if view == "steer" else {"max_model_len": 55}
    (installation.catalog.models["tiny"] / "chat_template.jinja").write_text("{{ messages }}")
    with server_in_thread(installation, **failing) as (url, _):
        tasks = [{"name": "lss", "languages": ["en", "fr"], "limit": 12}]
        neurons = {"fr": {"0": [1, 2]}, "tr": {"0": [2, 3], "1": [4]}}
        imported = httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).json()["id"]
        httpx.put(f"{url}/v1/models/tiny/default-neuron-set", json={"neuron_set": imported}).raise_for_status()
        sweep_id = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "tasks": tasks}).json()["id"]
        httpx.patch(f"{url}/v1/sweeps/{sweep_id}", json={"tags": ["paper"]}).raise_for_status()
        show(tab, url, view, sweep_id)
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                tab.show_as(width=width, scheme=scheme)
                assert violations(tab) == [], (scheme, width)
                if view == "sweeps":
                    tab.click("button[name=edit]")
                    assert violations(tab) == [], (scheme, width, "dialog")
                    tab.click("button[name=dismiss]")
                assert tab.run("document.documentElement.scrollWidth") <= width, (scheme, width)


def test_the_form_is_used_with_the_keyboard_alone(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#new")
        tab.until(SHOWN["new"])
        reached: list[str] = []
        while len(reached) < MAX_STOPS and "spec" not in reached:
            tab.press("Tab", 9)
            reached.append(tab.run("document.activeElement.name || document.activeElement.hash"))
        focus = tab.run("getComputedStyle(document.activeElement).outlineStyle")
    assert {"#sweeps", "name", "model", "method", "op", "factors", "controls", "limit-0", "spec"} <= set(reached)
    assert focus != "none"
