"""Several prompts, chats and the marks of tokens in the view of the web page that steers, in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import Installation

pytestmark = pytest.mark.processes

READY = "document.querySelector('.languages input[type=checkbox]')"
MARKED = "document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')"
MARKED += " && document.querySelectorAll('.lane:not(.baseline) details.tokens').length === {steered}"
LANES = """[...document.querySelectorAll('.asked')].map((asked) => [asked.querySelector('h2').textContent,
    [...asked.querySelectorAll('.lane')].map((lane) =>
        [lane.dataset.language, lane.querySelector('.text').textContent])])"""


@pytest.fixture
def url(installation: Installation) -> Iterator[str]:
    """A server whose model has a chat template and a neuron set of French and Turkish."""
    (installation.catalog.models["tiny"] / "chat_template.jinja").write_text("{{ messages }}")
    with server_in_thread(installation) as (url, _):
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        yield url


def post(url: str, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{url}/{path}", json={"model": "tiny", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def steered(language: str) -> dict[str, Any]:
    return {"intervention": {"languages": [language], "op": "set", "factor": 3}} if language else {}


def complete(url: str, prompt: object, language: str, **more: Any) -> Any:
    asked = {"max_tokens": 8, "temperature": 0, "seed": 0, **steered(language), **more}
    (choice,) = post(url, "v1/completions", prompt=prompt, **asked)["choices"]
    return choice


def areas(tab: Browser, name: str) -> list[str]:
    values: list[str] = tab.run(f"[...document.querySelectorAll('textarea[name={name}]')].map((each) => each.value)")
    return values


def fill(tab: Browser, name: str, index: int, text: str) -> None:
    tab.run(f"document.querySelectorAll('textarea[name={name}]')[{index}].id = 'area'")
    tab.fill("#area", text)
    tab.run("document.querySelector('#area').id = ''")


def steer(tab: Browser, *, lanes: int) -> Any:
    """Steer, wait until the tokens of all steered lanes are marked, and return the lanes of each prompt."""
    tab.fill("input[name=tokens]", "8")
    tab.click("button.main")
    tab.until(MARKED.format(steered=lanes))
    return tab.run(LANES)


def test_several_prompts_are_continued_in_one_request(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#steer?format=text")
    tab.until(READY)
    fill(tab, "prompt", 0, "One")
    tab.click("button[name=add-prompt]")
    fill(tab, "prompt", 1, "Two & <b>three</b>")
    link = tab.run("location.href")
    shown = steer(tab, lanes=4)
    assert [title for title, _ in shown] == ["One", "Two & <b>three</b>"]
    for prompt, lanes in shown:
        assert lanes == [
            [language, complete(url, prompt, language)["text"].lstrip()] for language in ("", "fr", "tr")
        ], prompt
    tab.open("about:blank")
    tab.open(link)
    tab.until(READY)
    assert areas(tab, "prompt") == ["One", "Two & <b>three</b>"]
    tab.click("button[aria-label='Remove Prompt 1']")
    assert areas(tab, "prompt") == ["Two & <b>three</b>"]
    assert "prompts=" not in tab.run("location.hash")
    assert tab.errors == []


def test_a_chat_is_sent_through_the_template_and_continued(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#steer")
    tab.until(READY)
    assert tab.run("document.querySelector('select[name=format]').value") == "chat", "the model has a template"
    fill(tab, "message", 0, "Hello")
    ((title, lanes),) = steer(tab, lanes=2)
    chat = [{"role": "user", "content": "Hello"}]
    ids = post(url, "tokenize", messages=chat)["tokens"]
    assert title == "Hello"
    assert lanes == [[language, complete(url, ids, language)["text"].lstrip()] for language in ("", "fr", "tr")]
    tab.click(".lane[data-language=fr] button[name=continue]")
    assert areas(tab, "message") == ["Hello", lanes[1][1], ""]
    assert tab.run("document.activeElement.name") == "message"
    fill(tab, "message", 2, "And then?")
    ((title, further),) = steer(tab, lanes=2)
    chat += [{"role": "assistant", "content": lanes[1][1]}, {"role": "user", "content": "And then?"}]
    ids = post(url, "tokenize", messages=chat)["tokens"]
    assert title == "And then?"
    assert further == [[language, complete(url, ids, language)["text"].lstrip()] for language in ("", "fr", "tr")]
    command = tab.run("document.querySelector('pre').textContent")
    assert "/v1/chat/completions" in command
    assert json.loads(command.partition("-d '")[2].removesuffix("'"))["messages"] == chat
    link = tab.run("location.href")
    tab.open("about:blank")
    tab.open(link)
    tab.until(READY)
    assert areas(tab, "message") == [message["content"] for message in chat]
    tab.fill("select[name=format]", "text")
    assert areas(tab, "prompt") == ["And then?"]
    assert tab.errors == []


def test_a_model_without_a_template_is_offered_no_chats(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        assert [model["supports_chat"] for model in httpx.get(f"{url}/v1/models").json()["data"]] == [False]
        tab.open(f"{url}/#steer?format=chat")
        tab.until("document.querySelector('textarea[name=prompt]')")
        assert tab.run("document.querySelector('select[name=format]').offsetParent === null"), "it is not shown"


def test_tokens_are_marked_by_what_steering_changed(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#steer?format=text")
    tab.until(READY)
    fill(tab, "prompt", 0, "One")
    steer(tab, lanes=2)
    kinds = set()
    prompt = post(url, "tokenize", prompt="One")["tokens"]
    for language in ("fr", "tr"):
        answer = complete(url, "One", language, logprobs=0)["logprobs"]
        scored = complete(url, prompt + answer["token_ids"], "", max_tokens=0, echo=True, logprobs=0)["logprobs"]
        unsteered = scored["token_logprobs"][len(prompt) :]
        rows = tab.run(
            f"[...document.querySelectorAll('.lane[data-language={language}] .tokens tbody tr')].map((row) =>"
            " [...row.children].map((cell) => cell.textContent))"
        )
        for row, text, own, other in zip(rows, answer["tokens"], answer["token_logprobs"], unsteered, strict=True):
            assert row[0] == text
            assert [float(value) for value in row[1:]] == pytest.approx([own, other, own - other], abs=0.0051)
        marks = tab.run(
            f"[...document.querySelectorAll('.lane[data-language={language}] .text .token')].map((token) =>"
            " [token.textContent.trim(), token.className, token.title])"
        )
        changes = [own - other for own, other in zip(answer["token_logprobs"], unsteered, strict=True)]
        expected = [
            [text.strip(), f"token {kind}", f"{change:+.2f} nats"]
            for text, change in zip(answer["tokens"], changes, strict=True)
            if (kind := kind_of(change))
        ]
        assert marks == expected
        kinds |= {kind for _, kind, _ in marks}
    assert len(kinds) > 1, "several kinds were compared"
    styles = tab.run(
        "[...document.querySelectorAll('.changes .token')].map((each) => getComputedStyle(each))"
        ".map((style) => [style.backgroundColor, style.textDecorationStyle])"
    )
    assert len({colour for colour, _ in styles}) == len({line for _, line in styles}) == 4, "not by colour alone"
    assert tab.run("document.querySelectorAll('.lane.baseline .token').length") == 0


def kind_of(change: float) -> str:
    levels = ((5, "more-3"), (2, "more-2"), (0.5, "more-1"), (-0.5, ""))
    return next((kind for least, kind in levels if change >= least), "less")


def test_the_parts_of_a_character_are_one_piece(url: str, tab: Browser) -> None:
    tokens = [
        {"offset": 0, "change": 1.0, "steered": False},
        {"offset": 2, "change": 0.5, "steered": False},  # the first bytes of the character, which add no text
        {"offset": 2, "change": 0.25, "steered": True},
        {"offset": 3, "change": -1.0, "steered": True},
    ]
    tab.open(url)
    found = tab.run(f"import('/page/steer/changes.js').then(({{pieces}}) => pieces(' a😀ب', {json.dumps(tokens)}))")
    assert found == [
        {"text": "a", "change": 1.0, "steered": False},
        {"text": "😀", "change": 0.75, "steered": True},
        {"text": "ب", "change": -1.0, "steered": True},
    ]


def test_answers_that_cannot_be_compared_say_why(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, max_model_len=30) as (url, _):
        neurons = {"fr": {"0": [1]}}
        httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()
        tab.open(f"{url}/#steer")
        tab.until(READY)
        tab.click("button.main")
        tab.until("document.querySelector('.lane:not(.baseline) footer').textContent.includes('not compared')")
        note = tab.run("document.querySelector('.lane:not(.baseline) footer').textContent")
        assert note.startswith("40 tokens in ")
        assert "accepts at most 30" in note
