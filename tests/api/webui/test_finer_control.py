"""Which tokens an intervention edits, in both forms of the web page, and how an answer shows which were steered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from ampsweep.domain.intervention import Intervention
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

READY = "document.querySelector('.languages input[type=checkbox]')"
ENDED = "document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')"
PLANNED = "document.querySelector('.plan tfoot') && !document.querySelector('.spec-form').inert"
DRIFT = {"min_characters": 20, "window": 60, "every": 10, "confidence": 0}
"""The words of the fake engine are neither French nor Turkish, so its answers drift for good."""


@pytest.fixture
def url(installation: Installation) -> Iterator[str]:
    """A server whose model has a neuron set of French and Turkish."""
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        yield url


def open_steer(tab: Browser, url: str, query: str = "") -> None:
    tab.open("about:blank")
    tab.open(f"{url}/#steer{query}")
    tab.until(READY)


def fill_drift(tab: Browser) -> None:
    tab.fill("select[name=when]", "drift")
    for name, value in DRIFT.items():
        tab.fill(f"input[name=drift-{name}]", str(value))


def value(tab: Browser, name: str) -> str:
    text: str = tab.run(f"document.querySelector('[name={name}]').value")
    return text


def spec(tab: Browser) -> Any:
    return yaml.safe_load(tab.run("document.querySelector('textarea[name=spec]').value"))


def write(tab: Browser, content: dict[str, Any]) -> str:
    """Type a spec, wait until the form shows it, and return its text."""
    text: str = yaml.safe_dump(content)
    tab.fill("textarea[name=spec]", text)
    tab.until(f"{PLANNED} && document.querySelector('input[name=name]').value === {json.dumps(content['name'])}")
    return text


def shell_intervention(tab: Browser) -> Any:
    """Return the intervention of the request that the page shows."""
    command = tab.run("document.querySelector('main > details pre').textContent")
    return json.loads(command.partition("-d '")[2].removesuffix("'"))["intervention"]


def test_an_answer_shows_which_of_its_tokens_were_steered(url: str, tab: Browser) -> None:
    open_steer(tab, url)
    fill_drift(tab)
    tab.fill("input[name=tokens]", "20")
    tab.click("button.main")
    tab.until(f"{ENDED} && document.querySelectorAll('details.tokens').length === 2")
    prompt = value(tab, "prompt")
    for language in ("fr", "tr"):
        intervention = {"languages": [language], "op": "set", "factor": 3, "when": {"drift": DRIFT}}
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 20, "temperature": 0, "seed": 0, "logprobs": 0}
        answer = httpx.post(f"{url}/v1/completions", json={**body, "intervention": intervention}).json()
        (choice,) = answer["choices"]
        ((first, end),) = choice["steered_spans"]
        words = choice["logprobs"]["tokens"]
        lane = f"document.querySelector('.lane[data-language={language}]')"
        assert 0 < first < end == 20
        assert tab.run(f"{lane}.querySelector('.text').textContent") == choice["text"].lstrip()
        marks = tab.run(f"[...{lane}.querySelectorAll('mark.steered')].map((mark) => mark.textContent)")
        assert marks == ["".join(words[first:end])], "one bracket around the steered tokens"
        note = tab.run(f"{lane}.querySelector('footer').textContent")
        assert f"{end - first} of them steered by {answer['neuron_set']}" in note
        rows = tab.run(
            f"[...{lane}.querySelectorAll('.tokens tbody tr')].map((row) => row.lastElementChild.textContent)"
        )
        assert rows == ["yes" if first <= index < end else "no" for index in range(20)]
        assert not tab.run(f"{lane}.querySelector('details.activity')"), "a given text has no activity of this kind"
    assert tab.run("document.querySelector('.lane.baseline mark')") is None
    legend = tab.run("document.querySelector('.legend.steering').textContent")
    assert "steered" in legend
    style = "getComputedStyle(document.querySelector('.lane mark.steered'))"
    assert tab.run(f"[{style}.borderTopStyle, {style}.borderBottomStyle]") == ["solid", "none"], "not by colour alone"
    assert tab.errors == []


def test_a_streamed_piece_is_marked_by_its_tokens(url: str, tab: Browser) -> None:
    """An event of a real engine can have several tokens, between which steering switches, and parts of characters."""
    tab.open(url)
    events: list[dict[str, Any]] = [
        {"text": " a b", "ids": 2, "offsets": [0, 2], "texts": [" a", " b"], "spans": [[1, 2]]},
        {"text": "", "ids": 1, "offsets": [4], "texts": ["�"], "spans": [[2, 3]]},
        {"text": "😀 c", "ids": 2, "offsets": [4, 5], "texts": ["😀", " c"], "spans": [[3, 4]]},
    ]
    chunks = [
        {
            "index": 0,
            "text": event["text"],
            "finish_reason": None,
            "steered_spans": event["spans"],
            "logprobs": {
                "token_ids": list(range(event["ids"])),
                "token_logprobs": [-1.0] * event["ids"],
                "text_offset": event["offsets"],
                "tokens": event["texts"],
            },
        }
        for event in events
    ]
    sent = "".join(f"data: {json.dumps({'choices': [chunk], 'neuron_set': 'ns_1'})}\n\n" for chunk in chunks)
    tab.run(f"window.fetch = async () => new Response({json.dumps(sent)})")
    started = """import('/page/steer/lanes.js').then(({startLanes}) => {
        const intervention = {languages: ['fr'], op: 'set', factor: 3, when: 'drift'};
        const {elements, ended} = startLanes({
            variants: [{title: 'French', language: 'fr', intervention}], prompts: ['One'], body: {max_tokens: 9},
            onrejected() {}, signal: new AbortController().signal,
        });
        document.body.append(...elements);
        return ended;
    })"""
    tab.run(started)
    assert tab.run("document.querySelector('.lane .text').textContent") == "a b😀 c"
    assert tab.run("[...document.querySelectorAll('.lane mark')].map((mark) => mark.textContent)") == [" b😀"]
    assert "connection" in tab.run("document.querySelector('.lane footer').textContent"), "the stream has no end"


def test_a_link_and_a_preset_keep_the_finer_control(url: str, tab: Browser) -> None:
    drifting = {"languages": ["fr"], "op": "set", "factor": 3, "part": "answer", "when": {"drift": DRIFT}}
    open_steer(tab, url)
    assert not tab.run("document.querySelector('details.finer').open")
    assert tab.run("document.querySelector('.drift').hidden")
    assert "when=" not in tab.run("location.hash"), "defaults are not in the address"
    fill_drift(tab)
    tab.fill("select[name=part]", "answer")
    assert shell_intervention(tab) == drifting
    link = tab.run("location.hash").removeprefix("#steer")
    open_steer(tab, url, link)
    assert tab.run("document.querySelector('details.finer').open"), "what is set is seen"
    assert shell_intervention(tab) == drifting
    assert "drifts" in tab.run("document.querySelector('.finer summary').textContent")
    tab.fill("input[name=preset-name]", "late")
    tab.click("button[name=save-preset]")
    tab.until("document.querySelector('select[name=preset]').value === 'late'")
    open_steer(tab, url, "?preset=late")
    tab.until("document.querySelector('select[name=when]').value === 'drift'")
    (preset,) = httpx.get(f"{url}/v1/interventions").json()["data"]
    assert preset["intervention"]["layers"] == "all"
    shown = Intervention.from_dict({**shell_intervention(tab), "languages": preset["intervention"]["languages"]})
    assert shown == Intervention.restore(preset["intervention"])
    tab.fill("input[name=factor]", "4")
    assert value(tab, "preset") == "", "the form is no longer that of the preset"
    assert "preset=" not in tab.run("location.hash")
    assert tab.errors == []


def test_a_preset_says_what_the_form_cannot_show(url: str, tab: Browser) -> None:
    intervention = {
        "languages": {"fr": 1, "tr": 0.5},
        "op": "set",
        "statistic": "p80",
        "non_target": {"op": "set", "factor": 0},
    }
    httpx.post(f"{url}/v1/interventions", json={"name": "both", "intervention": intervention}).raise_for_status()
    open_steer(tab, url, "?preset=both")
    tab.until("document.querySelector('.presets').textContent.includes('no control')")
    message = tab.run("document.querySelector('.presets [role=status]').textContent")
    assert "weights, non_target" in message
    assert value(tab, "magnitude") == "statistic:p80", "a statistic that the list does not have"
    open_steer(tab, url, "?preset=gone")
    tab.until("document.querySelector('.presets').textContent.includes('no preset “gone”')")


@pytest.mark.parametrize(
    ("fields", "control", "message"),
    [
        ({"which": "5:2"}, "which", "tokens.end: no token is from start 5 up to end 2"),
        ({"which": "a:2"}, "which", "tokens.start: input should be a valid integer"),
        ({"decay": "2"}, "decay", "tokens.decay: input should be less than 1"),
        ({"when": "drift", "which": ":8"}, "which", "cannot be combined with when"),
        ({"when": "drift", "drift-window": "3"}, "drift-window", "input should be greater than or equal to 10"),
        ({"part": "thinking"}, "part", "the model's vocabulary has no tokens around what it thinks"),
        ({"part": "answer", "scope": "prompt"}, "scope", "must not be prompt with part"),
    ],
)
def test_the_server_names_what_is_wrong_at_its_control(
    url: str, tab: Browser, fields: dict[str, str], control: str, message: str
) -> None:
    open_steer(tab, url, "?languages=fr")
    for name, text in fields.items():
        tab.fill(f"[name={name}]", text)
    tab.run("document.querySelector('details.finer').open = false")
    tab.click("button.main")
    tab.until(ENDED)
    assert message in tab.run("document.querySelector('#finer-error').textContent")
    assert message in tab.run("document.querySelector('.lane[data-language=fr] .error').textContent")
    assert tab.run("[...document.querySelectorAll('[aria-invalid]')].map((each) => each.name)") == [control]
    assert tab.run("document.querySelector('details.finer').open"), "the group with the error is open"
    assert tab.run("document.querySelector('.lane.baseline footer').textContent").startswith("40 tokens")
    tab.fill("[name=which]", "all")
    assert tab.run("document.querySelectorAll('[aria-invalid], #finer-error .error').length") == 0


def test_the_form_of_a_sweep_writes_the_finer_control_and_follows_the_text(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    before = spec(tab)["interventions"]
    tab.fill("select[name=scope]", "generation")
    tab.fill("input[name=which]", "2:8")
    tab.fill("input[name=decay]", "0.5")
    tokens = {"start": 2, "end": 8, "decay": 0.5}
    assert spec(tab)["interventions"] == {**before, "scope": "generation", "tokens": tokens}
    tab.until(f"{PLANNED} && !document.querySelector('.new .error')")
    for name, text in {"scope": "all", "which": "all", "decay": "", "when": "drift", "part": "answer"}.items():
        tab.fill(f"[name={name}]", text)
    assert spec(tab)["interventions"] == {**before, "when": "drift", "part": "answer"}
    tab.until("document.querySelector('.spec-text .error')?.textContent.includes('when')")
    interventions = {**SPEC["interventions"], "scope": "prompt", "tokens": {"positions": [-1, 0]}}
    text = write(tab, {**SPEC, "name": "typed", "interventions": interventions})
    assert value(tab, "which") in {"-1, 0", "0, -1"}
    assert [value(tab, name) for name in ("scope", "decay", "when", "part")] == ["prompt", "", "", ""]
    assert tab.run("document.querySelector('details.finer').open")
    assert value(tab, "spec") == text
    tab.fill("input[name=which]", "4:1")
    tab.until("document.querySelector('#finer-error .error')")
    assert "no token is from start 4" in tab.run("document.querySelector('#finer-error').textContent")
    assert "interventions.tokens.end" in tab.run("document.querySelector('.spec-text .error').textContent")
    tab.fill("input[name=which]", "1:4")
    tab.until(f"{PLANNED} && !document.querySelector('#finer-error .error')")
    assert spec(tab)["interventions"]["tokens"] == {"start": 1, "end": 4}


def test_lists_of_choices_are_shown_and_kept(url: str, tab: Browser) -> None:
    lists = {
        "tokens": [{"end": 8}, None, {"start": 8, "decay": 0.5}],
        "when": [None, "drift", {"drift": {"window": 90}}],
        "part": ["thinking", "answer"],
    }
    interventions = {"op": "set", "scope": "generation", **lists}
    tab.open(url)
    script = f"""Promise.all(
        ['finer_control/group', 'new_sweep/yaml', 'choices'].map((name) => import(`/page/${{name}}.js`)),
    ).then(
        async ([{{finerControl}}, {{toYaml}}, {{sweepChoices}}]) => {{
            const finer = finerControl((await sweepChoices()).finer, {{several: true}});
            const interventions = {json.dumps(interventions)};
            finer.show(interventions);
            const shown = finer.value();
            const inputs = [...finer.element.querySelectorAll('input:not([name^=drift]), select')];
            const values = Object.fromEntries(inputs.map((each) => [each.name, each.value]));
            const window = finer.element.querySelector('[name=drift-window-3]');
            const isShown = window.closest('fieldset').hidden === false;
            const text = finer.element.querySelector('summary').textContent;
            finer.show({{...interventions, tokens: [{{end: 4}}], when: null}});
            return [shown, toYaml({{interventions}}), values, [window.value, isShown], text, finer.value()];
        }})"""
    shown, yaml_text, values, window, summary, changed = tab.run(script)
    assert shown == {"scope": "generation", **lists}
    assert yaml.safe_load(yaml_text) == {"interventions": interventions}
    assert values == {
        "scope": "generation",
        "which": ":8",
        "which-2": "all",
        "which-3": "8:",
        "decay": "",
        "decay-2": "",
        "decay-3": "0.5",
        "when": "",
        "when-2": "drift",
        "when-3": "drift",
        "part": "thinking",
        "part-2": "answer",
    }
    assert window == ["90", True]
    assert "3 choices of tokens, 3 choices of when, 2 choices of part" in summary
    assert changed == {"scope": "generation", "tokens": {"end": 4}, "part": lists["part"]}, "a list of one is that one"


def test_the_form_of_a_sweep_follows_and_writes_lists_of_choices(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    tokens = [None, {"end": 8}, {"positions": [0, 2], "decay": 0.5}]
    interventions = {**SPEC["interventions"], "scope": "generation", "tokens": tokens}
    text = write(tab, {**SPEC, "name": "typed", "interventions": interventions})
    cells = "Number(document.querySelector('.plan tfoot [data-column=cells]').textContent)"
    count = tab.run(cells)
    assert value(tab, "spec") == text
    assert [value(tab, f"which{suffix}") for suffix in ("", "-2", "-3")] == ["all", ":8", "0, 2"]
    tab.fill("input[name=limit-0]", "3")
    assert spec(tab)["interventions"] == interventions
    tab.fill("input[name=which-2]", "3:1")
    tab.until("document.querySelector('#finer-error .error')")
    assert "no token is from start 3" in tab.run("document.querySelector('#finer-error').textContent")
    assert tab.run("[...document.querySelectorAll('[aria-invalid]')].map((each) => each.name)") == ["which-2"]
    tab.fill("input[name=which-2]", ":4")
    assert spec(tab)["interventions"]["tokens"] == [None, {"end": 4}, tokens[2]]
    tab.click("button[name=remove-tokens-3]")
    assert spec(tab)["interventions"]["tokens"] == [None, {"end": 4}]
    tab.until(f"{PLANNED} && !document.querySelector('.new .error') && {cells} < {count}")
    tab.click("button[name=remove-tokens-2]")
    assert "tokens" not in spec(tab)["interventions"]


def test_choices_are_added_in_the_form_of_a_sweep(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    before = spec(tab)["interventions"]
    tab.run("document.querySelector('details.finer').open = true")
    tab.click("button[name=add-tokens]")
    assert tab.run("document.activeElement.name") == "which-2"
    assert spec(tab)["interventions"] == before, "a choice counts once it differs"
    tab.fill("input[name=which-2]", "2:8")
    assert spec(tab)["interventions"] == {**before, "tokens": [None, {"start": 2, "end": 8}]}
    tab.click("input[name=controls][value=random]")  # which draws the form anew
    assert value(tab, "which-2") == "2:8"
    tab.click("button[name=remove-tokens-2]")
    assert tab.run("document.activeElement.name") == "add-tokens"
    tab.click("button[name=add-when]")
    for _ in range(2):
        tab.click("button[name=add-part]")
    assert tab.run("document.querySelector('button[name=add-part]').disabled"), "there are three"
    interventions = spec(tab)["interventions"]
    assert interventions["when"] == [None, "drift"]
    assert interventions["part"] == [None, "thinking", "answer"]
    tab.click("button[name=add-when]")
    tab.fill("input[name=drift-window-3]", "120")
    assert spec(tab)["interventions"]["when"] == [None, "drift", {"drift": {"window": 120}}]
    tab.click("button[name=remove-when-2]")
    assert spec(tab)["interventions"]["when"] == [None, {"drift": {"window": 120}}]
    assert tab.run("document.querySelectorAll('.finer label').length") == tab.run(
        "document.querySelectorAll('.finer input, .finer select').length"
    )
    link = f"{url}/#steer"
    tab.open("about:blank")
    tab.open(link)
    tab.until(READY)
    assert tab.run("document.querySelector('button[name=add-tokens]')") is None, "a request has one intervention"


def test_the_group_is_opened_and_used_with_the_keyboard(url: str, tab: Browser) -> None:
    open_steer(tab, url)
    tab.run("document.querySelector('.finer summary').focus()")
    tab.press(" ", 32)
    tab.until("document.querySelector('details.finer').open")
    reached = []
    for _ in range(5):
        tab.press("Tab", 9)
        reached.append(tab.run("document.activeElement.name"))
    assert reached == ["scope", "which", "decay", "when", "part"]
    unnamed = (
        "[...document.querySelectorAll('.finer input, .finer select')].filter((each) => !each.labels.length).length"
    )
    assert tab.run(unnamed) == 0
