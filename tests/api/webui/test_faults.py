"""The web page at the edges: servers that go away, links to what does not exist, second clicks, texts of any length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.auth.api_keys import KeyScope
from api.auth.authentication import ALWAYS_OPEN
from api.routes.webui import PAGE_PATHS
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

READY = "document.querySelector('.languages input[type=checkbox]')"
ENDED = "document.querySelector('.lane') && !document.querySelector('.lane:not([data-ended])')"
PLANNED = "document.querySelector('.plan tfoot') && !document.querySelector('.spec-form').inert"
FOOTERS = "[...document.querySelectorAll('.lane footer')].map((footer) => footer.textContent)"
CHECKED = "[...document.querySelectorAll('input[name=language]:checked')].map((box) => box.value)"


def add_neurons(url: str) -> None:
    neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
    httpx.post(f"{url}/v1/neuron-sets", json={"model": "tiny", "neurons": neurons}).raise_for_status()


@pytest.fixture
def url(installation: Installation) -> Iterator[str]:
    """A server whose model has a chat template and a neuron set of French and Turkish."""
    (installation.catalog.models["tiny"] / "chat_template.jinja").write_text("{{ messages }}")
    with server_in_thread(installation) as (url, _):
        add_neurons(url)
        yield url


def open_steer(tab: Browser, url: str, query: str = "") -> None:
    tab.open("about:blank")
    tab.open(f"{url}/#steer{query}")
    tab.until(READY)


def answer_with(tab: Browser, *choices: dict[str, Any]) -> None:
    """Let the page get a stream with these choices and without an end, as if the server had gone away."""
    chunks = [json.dumps({"choices": [choice], "neuron_set": None}) for choice in choices]
    text = "".join(f"data: {chunk}\n\n" for chunk in chunks)
    tab.run(f"""(() => {{
        const send = window.fetch;
        window.fetch = async (path, options) =>
            String(path).endsWith('/completions') ? new Response({json.dumps(text)}) : send(path, options);
    }})()""")


def test_a_stream_that_is_cut_off_is_an_error_of_the_answers_that_it_cut(url: str, tab: Browser) -> None:
    def choice(index: int, ending: str | None) -> dict[str, Any]:
        logprobs = {"token_ids": [1], "token_logprobs": [-1.0], "text_offset": [0], "tokens": [" word"]}
        return {"index": index, "text": " word", "finish_reason": ending, "logprobs": logprobs}

    open_steer(tab, url, "?languages=fr")
    answer_with(tab, choice(0, "stop"), choice(1, None))
    tab.click("button.main")
    tab.until(ENDED)
    complete, cut = tab.run(FOOTERS)
    assert complete.startswith("1 token in ")
    assert "connection to the server was lost" in cut
    assert tab.run("[...document.querySelectorAll('.lane .text')].map((text) => text.textContent)") == ["word"] * 2
    tab.until("document.querySelector('.buttons [role=status]').textContent === 'Ended with errors.'")


def test_a_server_that_has_stopped_is_named(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        add_neurons(url)
        open_steer(tab, url)
    tab.click("button.main")
    tab.until(ENDED)
    assert all("cannot be reached" in text for text in tab.run(FOOTERS))
    tab.run("location.hash = 'sweeps'")
    tab.until("document.querySelector('main .error')?.textContent.includes('cannot be reached')")
    tab.until("document.querySelector('#engines').textContent === 'server unreachable'")


def test_a_sweep_is_shown_once_the_server_is_back(url: str, tab: Browser) -> None:
    sweep = httpx.post(f"{url}/v1/sweeps", json=SPEC).json()
    tab.open(f"{url}/#sweeps")
    tab.until("document.querySelector('.sweeps tbody a')")
    tab.run("""(() => {
        const send = window.fetch;
        window.isGone = true;
        window.fetch = (...given) => window.isGone ? Promise.reject(new TypeError('gone')) : send(...given);
    })()""")
    tab.run(f"location.hash = 'sweeps/{sweep['id']}'")
    tab.until("document.querySelector('main .error')?.textContent.includes('cannot be reached')")
    tab.run("window.isGone = false")
    tab.until("document.querySelector('.heat-map td') && !document.querySelector('main .error')")


def test_a_second_click_replaces_the_first(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, seconds_per_step=0.02) as (url, _):
        add_neurons(url)
        open_steer(tab, url)
        tab.fill("input[name=tokens]", "400")
        tab.click("button.main")
        tab.until("document.querySelector('.lane .text')?.textContent")
        tab.fill("input[name=tokens]", "5")
        tab.click("button.main")
        tab.until(f"{ENDED} && document.querySelector('button[name=stop]').disabled")
        assert [text.partition(" in ")[0] for text in tab.run(FOOTERS)] == ["5 tokens"] * 3
        tab.fill("input[name=tokens]", "400")
        tab.click("button.main")
        tab.until("document.querySelector('.lane .text')?.textContent")
        tab.click("button[name=stop]")
        tab.until(ENDED)
        assert tab.run(FOOTERS) == ["stopped"] * 3


def test_a_link_says_what_the_server_does_not_have(url: str, tab: Browser) -> None:
    open_steer(tab, url, "?model=gone&neurons=ns_gone&languages=tr,xx,<b>&op=set&scope=nowhere&format=odd")
    notes = tab.run("[...document.querySelectorAll('main > [role=status] .warning')].map((note) => note.textContent)")
    assert len(notes) == 4
    for text in ("model “gone”", "scope “nowhere”", "no neuron set ns_gone", "xx, <b>"):
        assert any(text in note for note in notes), text
    assert tab.run(CHECKED) == ["tr"]
    assert tab.run("document.querySelector('select[name=format]').value") == "chat"
    tab.click("input[name=language][value=tr]")
    link = tab.run("location.hash").removeprefix("#steer")
    open_steer(tab, url, link)
    assert tab.run(CHECKED) == [], "no language is a choice too"
    assert tab.run("document.querySelectorAll('main > [role=status] .warning').length") == 0
    assert tab.errors == []


def test_a_long_prompt_and_one_from_right_to_left(url: str, tab: Browser) -> None:
    open_steer(tab, url, "?format=text&languages=fr&prompt=a?b")
    assert tab.run("document.querySelector('textarea[name=prompt]').value") == "a?b", "a question mark ends nothing"
    tab.fill("input[name=tokens]", "2")
    tab.run("document.querySelector('textarea[name=prompt]').value = ''")
    tab.fill("textarea[name=prompt]", "x" * 60_000)
    assert "too long for a link" in tab.run("document.querySelector('main > [role=status]').textContent")
    assert len(tab.run("location.href")) < 2000
    tab.fill("textarea[name=prompt]", "ما هي <b>عملة</b> مصر؟ " * 40)
    assert tab.run("document.querySelector('main > [role=status]').textContent") == ""
    tab.click("button.main")
    tab.until(ENDED)
    title = tab.run("document.querySelector('.asked h2').textContent")
    assert title.startswith("ما هي <b>عملة</b> مصر؟")
    assert title.endswith("…")
    assert tab.run("getComputedStyle(document.querySelector('.asked h2')).direction") == "rtl"
    assert tab.run("getComputedStyle(document.querySelector('.lane .text')).direction") == "ltr"
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")


def test_long_names_do_not_widen_the_page(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        body = {**SPEC, "name": "n" * 200}
        sweep_id = httpx.post(f"{url}/v1/sweeps", json=body).raise_for_status().json()["id"]
        httpx.patch(f"{url}/v1/sweeps/{sweep_id}", json={"tags": ["t" * 64]}).raise_for_status()
        for view, shown in (("sweeps", ".sweeps tbody a"), (f"sweeps/{sweep_id}", ".facts")):
            tab.open("about:blank")
            tab.open(f"{url}/#{view}")
            tab.until(f"document.querySelector('{shown}')")
            for width in (1440, 390):
                tab.show_as(width=width)
                assert tab.run("document.documentElement.scrollWidth") <= width, (view, width)
        tab.show_as(width=1280)


def test_a_chat_is_continued_whatever_became_of_the_form(url: str, tab: Browser) -> None:
    def messages() -> list[list[str]]:
        found: list[list[str]] = tab.run(
            "[...document.querySelectorAll('.prompt')].map((each) =>"
            " [...each.querySelectorAll('textarea')].map((area) => area.value))"
        )
        return found

    def proceed(language: str) -> None:
        tab.click(f".asked:last-of-type .lane[data-language={language}] button[name=continue]")

    open_steer(tab, url, "?languages=fr,tr")
    tab.click("button[name=add-prompt]")
    tab.run("document.querySelectorAll('textarea')[1].id = 'second'")
    tab.fill("#second", "Second")
    tab.fill("input[name=tokens]", "3")
    assert tab.run("document.querySelector('button[name=continue]')") is None
    tab.click("button.main")
    tab.until(ENDED)
    french, turkish = tab.run(
        "[...document.querySelectorAll('.asked:last-of-type .lane:not(.baseline) .text')]"
        ".map((text) => text.textContent)"
    )
    proceed("fr")
    assert messages()[1] == ["Second", french, ""]
    proceed("tr")
    assert messages()[1] == ["Second", turkish, ""], "another answer takes its place"
    tab.click("button[aria-label='Remove Prompt 1']")
    assert tab.run("document.activeElement.tagName") == "TEXTAREA", "the focus stays in the form"
    proceed("fr")
    assert messages() == [["Second", french, ""]]
    tab.click("button[name=add-prompt]")
    tab.click("button[aria-label='Remove Prompt 1']")
    tab.fill("select[name=format]", "text")
    proceed("fr")
    assert messages() == [[""], ["Second", french, ""]]
    assert tab.errors == []


def test_enter_neither_submits_a_sweep_nor_sends_prompts_from_the_name_of_a_preset(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    tab.run("document.querySelector('input[name=name]').focus()")
    tab.run("document.activeElement.select()")
    tab.run("document.execCommand('insertText', false, 'typed')")
    tab.press("Enter", 13, text="\r")
    tab.until("document.querySelector('textarea[name=spec]').value.includes('name: typed')")
    assert tab.run("location.hash") == "#new"
    open_steer(tab, url)
    tab.fill("input[name=preset-name]", "quick")
    tab.run("document.querySelector('input[name=preset-name]').focus()")
    tab.press("Enter", 13, text="\r")
    tab.until("document.querySelector('select[name=preset]').value === 'quick'")
    assert tab.run("document.querySelector('.lane')") is None
    assert httpx.get(f"{url}/v1/sweeps").json()["data"] == []


def test_the_form_follows_a_text_that_is_typed_while_another_is_planned(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    tab.run("""(() => {
        const send = window.fetch;
        window.waiting = [];
        window.fetch = (path, options) => String(path).endsWith('/plan') && !window.isOpen
            ? new Promise((resolve) => window.waiting.push(() => resolve(send(path, options)))) : send(path, options);
    })()""")
    tab.fill("input[name=limit-0]", "3")
    tab.until("window.waiting.length === 1")
    tab.fill("textarea[name=spec]", json.dumps({**SPEC, "name": "typed"}))
    tab.run("(() => { window.isOpen = true; window.waiting[0](); })()")
    tab.until("document.querySelector('input[name=name]').value === 'typed'")
    assert json.loads(tab.run("document.querySelector('textarea[name=spec]').value"))["name"] == "typed"


@pytest.mark.parametrize(
    "access", ["get() { throw new DOMException('Access is denied', 'SecurityError'); }", "value: null"]
)
def test_the_page_works_where_the_browser_blocks_its_storage(
    installation: Installation, tab: Browser, access: str
) -> None:
    """With a key, every view, a submitted sweep and a link: the state is in the page and in the address only."""
    blocked = "".join(
        f"Object.defineProperty(window, '{name}', {{{access}}});" for name in ("sessionStorage", "localStorage")
    )
    with (
        server_in_thread(installation, open_paths=ALWAYS_OPEN | PAGE_PATHS) as (url, server),
        tab.before_pages(blocked),
    ):
        _, headers = server.key(KeyScope.ADMIN)
        neurons = {"fr": {"0": [1]}, "tr": {"0": [2]}}
        body = {"model": "tiny", "neurons": neurons}
        httpx.post(f"{url}/v1/neuron-sets", json=body, headers=headers).raise_for_status()
        tab.open(f"{url}/#steer?languages=tr&factor=4")
        tab.until("document.querySelector('.error')")
        tab.fill("#key input", headers["Authorization"].removeprefix("Bearer "))
        tab.until(READY)
        assert tab.run(CHECKED) == ["tr"]
        tab.click("button.main")
        tab.until(ENDED)
        assert tab.run("document.querySelectorAll('.lane .error').length") == 0
        tab.run("location.hash = 'new'")
        tab.until(PLANNED)
        tab.click("button[name=submit]")
        tab.until("document.querySelector('.samples li')")
        tab.run("location.hash = 'sweeps'")
        tab.until("document.querySelector('.sweeps tbody a')")
    assert [error for error in tab.errors if "401" not in error] == []


def test_a_sweep_is_submitted_once_when_the_first_answer_is_lost(url: str, tab: Browser) -> None:
    tab.open(f"{url}/#new")
    tab.until(PLANNED)
    tab.run("""(() => {
        const send = window.fetch;
        window.fetch = async (path, options) => {
            const response = await send(path, options);
            if (String(path) !== 'v1/sweeps' || window.wasLost) return response;
            window.wasLost = true;
            throw new TypeError('lost');
        };
    })()""")
    tab.click("button[name=submit]")
    tab.until("document.querySelector('.spec-text .error')?.textContent.includes('cannot be reached')")
    tab.click("button[name=submit]")
    tab.until("location.hash.startsWith('#sweeps/')")
    assert len(httpx.get(f"{url}/v1/sweeps").json()["data"]) == 1


def test_an_unknown_view_is_the_first_one(url: str, tab: Browser) -> None:
    """Names that every JavaScript object has are unknown too."""
    for name in ("nothing", "constructor", "__proto__"):
        tab.open("about:blank")
        tab.open(f"{url}/#{name}")
        tab.until(READY)
        assert tab.run("document.querySelector('nav a[aria-current]').textContent") == "Steer"
    assert tab.errors == []


def test_layers_that_are_all_and_one_more_are_an_error(url: str, tab: Browser) -> None:
    open_steer(tab, url)
    tab.fill("input[name=layers]", "all, 1")
    tab.click("button.main")
    tab.until(ENDED)
    errors = tab.run("[...document.querySelectorAll('.lane .error')].map((each) => each.textContent)")
    assert [error.split(":")[0] for error in errors] == ["layers.0"] * 2


def test_a_short_answer_of_many_possible_tokens_leaves_little_empty_space(url: str, tab: Browser) -> None:
    open_steer(tab, url)
    answer_with(
        tab, *({"index": index, "text": "Yes", "finish_reason": "stop", "logprobs": None} for index in range(3))
    )
    tab.fill("input[name=tokens]", "100000")
    tab.click("button.main")
    tab.until(ENDED)
    heights = tab.run("[...document.querySelectorAll('.lane .text')].map((each) => each.clientHeight)")
    assert len(heights) == 3
    assert all(0 < height < 600 for height in heights)
