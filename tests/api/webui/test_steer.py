"""The view of the web page that steers a prompt, in a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest

from ampsweep.domain.choices import OPS, PATCHES, VECTORS, Scope, Selection
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import SpecMethod
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.domain.statistic import EXAMPLES
from api.auth.api_keys import KeyScope
from api.auth.authentication import ALWAYS_OPEN
from api.routes.webui import PAGE_PATHS
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import Installation

LANES = """[...document.querySelectorAll('.lane')].map((lane) =>
    [lane.dataset.language, ...['.text', 'footer'].map((part) => lane.querySelector(part).textContent)])"""
ALL_ENDED = "document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')"
RECORD_BODIES = """(() => {
    window.bodies = [];
    const send = window.fetch;
    window.fetch = (path, options) => {
        const body = String(path).includes('completions') ? JSON.parse(options.body) : {};
        if (body.interventions) window.bodies.push(body);
        return send(path, options);
    };
})()"""


def complete(url: str, body: dict[str, Any]) -> str:
    text: str = httpx.post(f"{url}/v1/completions", json=body).json()["choices"][0]["text"]
    return text


@pytest.mark.processes
def test_a_prompt_is_steered_side_by_side(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages select[name=corpus]')?.value === 'atlas'")
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
        body, *_ = tab.run("window.bodies")  # more follow, without those that the server rejects
    sent = [intervention for intervention in body["interventions"] if intervention is not None]
    assert {"languages": ["fr"], **expected} in sent
    for intervention in sent:
        Intervention.from_dict(intervention)


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
def test_a_neuron_set_is_imported_from_a_file(installation: Installation, tab: Browser) -> None:
    def choose(text: str) -> None:
        tab.run(f"""(() => {{
            const files = new DataTransfer();
            files.items.add(new File([{json.dumps(text)}], "neurons.json"));
            const input = document.querySelector("input[name=neuron-file]");
            input.files = files.files;
            input.dispatchEvent(new Event("change"));
        }})()""")

    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('input[name=neuron-file]')")
        choose("{")
        tab.until("document.querySelector('.import .error')")
        assert "not JSON" in tab.run("document.querySelector('.import .error').textContent")
        choose(json.dumps({"fr": {"0": [1, 2]}, "tr": {"1": [3]}}))
        tab.until("document.querySelector('input[name=language]')")
        (neurons,) = httpx.get(f"{url}/v1/neuron-sets").json()["data"]
        assert tab.run("document.querySelector('select[name=neurons]').value") == neurons["id"]
    assert neurons["languages"] == {"fr": 2, "tr": 1}


@pytest.mark.processes
def test_all_lanes_are_one_request_and_a_rejected_one_spares_the_others(
    installation: Installation, tab: Browser
) -> None:
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1]}, "tr": {"1": [2]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        tab.run(RECORD_BODIES)
        tab.click("button.main")
        tab.until(ALL_ENDED)
        assert tab.run("window.bodies.map((body) => body.interventions.length)") == [3]
        tab.fill("input[name=layers]", "1")
        tab.click("button.main")
        tab.until(f"window.bodies.length === 3 && {ALL_ENDED}")
        assert tab.run("window.bodies.map((body) => body.interventions.length)") == [3, 3, 2]
        (_, _, unsteered), (_, text, french), (_, _, turkish) = tab.run(LANES)
        assert unsteered.startswith("40 tokens in ")
        assert turkish.startswith("40 tokens in ")
        assert (text, "neuron" in french) == ("", True)


@pytest.mark.processes
def test_an_answer_has_the_tag_of_its_language(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('form.steer')")
        tab.fill("input[name=tokens]", "30")
        tab.click("button.main")
        tab.until("document.querySelector('.tag')")
        text = tab.run("document.querySelector('.lane .text').textContent")
        (expected,) = httpx.post(f"{url}/v1/languages/identify", json={"texts": [text]}).json()["data"]
        assert tab.run("document.querySelector('.tag').dataset.language") == expected["language"]


@pytest.mark.processes
def test_a_link_restores_the_form_and_presets_are_shared(installation: Installation, tab: Browser) -> None:
    def form(*names: str) -> list[str]:
        values: list[str] = tab.run(
            f"{json.dumps(names)}.map((name) => document.querySelector(`[name=${{name}}]`).value)"
        )
        return values

    checked = "[...document.querySelectorAll('input[name=language]:checked')].map((box) => box.value)"
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}, "ja": {"0": [3]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        tab.fill("textarea[name=prompt]", "One & two?")
        tab.fill("select[name=op]", "add")
        tab.fill("input[name=slider]", "7.5")
        tab.fill("input[name=layers]", "0, 1")
        tab.fill("input[name=which]", "1:8")
        tab.fill("input[name=decay]", "0.5")
        tab.click("input[name=language][value=fr]")
        link = tab.run("location.href")
        tab.open("about:blank")
        tab.open(link)
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        fields = ("prompt", "op", "factor", "layers", "which", "decay")
        assert form(*fields) == ["One & two?", "add", "7.5", "0, 1", "1:8", "0.5"]
        assert sorted(tab.run(checked)) == ["ja", "tr"]
        tab.fill("input[name=preset-name]", "mine")
        tab.click("button[name=save-preset]")
        tab.until("document.querySelector('select[name=preset]').value === 'mine'")
        (preset,) = httpx.get(f"{url}/v1/interventions").json()["data"]
        tokens = {"start": 1, "end": 8, "decay": 0.5}
        saved = {"languages": ["ja", "tr"], "op": "add", "factor": 7.5, "layers": [0, 1], "tokens": tokens}
        assert Intervention.restore(preset["intervention"]) == Intervention.from_dict(saved)
        tab.open("about:blank")
        tab.open(f"{url}/#steer?preset=mine")
        tab.until("document.querySelector('input[name=factor]')?.value === '7.5'")
        tab.until("document.querySelector('input[name=language]:checked')")
        assert sorted(tab.run(checked)) == ["ja", "tr"]
        assert form("which", "decay") == ["1:8", "0.5"]
        tab.click("button[name=delete-preset]")
        tab.until("document.querySelector('dialog[open]')")
        tab.click("button[name=confirm]")
        tab.until("document.querySelector('.presets').textContent.includes('deleted')")
        assert httpx.get(f"{url}/v1/interventions").json()["data"] == []


@pytest.mark.processes
def test_an_answer_shows_the_activity_of_each_language_at_each_token(installation: Installation, tab: Browser) -> None:
    tab.errors.clear()
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1, 5], "2": [7]}, "tr": {"0": [2]}, "ht": {}}
        imported = httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).json()["id"]
        tab.open(f"{url}/#steer")
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        tab.fill("textarea[name=prompt]", "a\nb")
        tab.fill("input[name=tokens]", "2")
        tab.click("button.main")
        tab.until(ALL_ENDED)
        lanes = tab.run("[...document.querySelectorAll('.lane')].map((lane) => lane.dataset.language)")
        assert lanes == ["", "fr", "tr"]
        for index, language in enumerate(lanes):
            lane = f"document.querySelectorAll('.lane')[{index}]"
            assert not tab.run(f"{lane}.querySelector('.activity table')"), "it is asked for when it is opened"
            tab.run(f"{lane}.querySelector('.activity summary').click()")
            tab.until(f"{lane}.querySelector('.activity table')")
            shown = tab.run(f"""[...{lane}.querySelectorAll('.activity tr')].map((row) =>
                [...row.children].map((cell) => cell.textContent))""")
            completion = {"model": "tiny", "prompt": "a\nb", "max_tokens": 2, "temperature": 0, "seed": 0}
            intervention = {"languages": [language], "op": "set", "factor": 3}
            steered = {"intervention": intervention, "neurons": imported} if language else {}
            text = {"prompt": "a\nb", "completion": complete(url, completion | steered)}
            body = {"model": "tiny", "text": text, "neurons": imported, **steered}
            answer = httpx.post(f"{url}/v1/activations/languages", json=body).json()
            assert shown[0] == ["token", "fr", "tr"]
            names = {"": "∅", "\n": "↵", " ": "·"}
            expected = [
                [names.get(token["text"], token["text"]), *(f"{share:.2f}" for share in shares[:2])]
                for token, shares in zip(answer["tokens"], answer["active"], strict=True)
            ]
            assert shown[1:] == expected
    assert tab.errors == []


@pytest.mark.processes
def test_an_identification_for_a_sweep_is_shown_until_its_set_is_listed(
    installation: Installation, tab: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = RecordingProgress(
        language="fr", languages=3, languages_done=1, tokens=1000, total_tokens=4000, tokens_per_second=50.0
    )
    recorded = {"ns_" + "f" * 32: progress}

    async def recordings(_model: str | None = None) -> dict[str, RecordingProgress]:
        return recorded

    def says(text: str) -> str:
        return f"document.querySelector('form.steer')?.textContent.includes({json.dumps(text)})"

    with server_in_thread(installation, working=False) as (url, server):
        monkeypatch.setattr(server.pool, "recordings", recordings)
        tab.open(f"{url}/#steer")
        tab.until(says("for a sweep or another user: finding neurons: fr, 1 of 3 languages, 1,000 of 4,000 tokens"))
        assert tab.run(says("This model has no neuron set yet."))
        recorded["ns_" + "f" * 32] = replace(progress, tokens=3000)
        tab.until(says("3,000 of 4,000 tokens"))
        recorded.clear()
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        tab.until("document.querySelector('.languages input[type=checkbox]')")
        assert not tab.run(says("another user"))
    assert tab.errors == []
