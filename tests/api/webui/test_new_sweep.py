"""The view of the web page that writes, plans and submits the spec of a sweep, in a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml

from ampsweep.domain.choices import OPS, VECTORS, Scope, Selection
from ampsweep.domain.neurons.neuron_set import SpecMethod
from jobs.instruction import PromptMethod
from jobs.planning.offers import OFFERS
from jobs.spec.sweep import parse_spec
from tests.api.browser import Browser
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

PLANNED = "document.querySelector('.plan tfoot') && !document.querySelector('.spec-form').inert"


def open_form(tab: Browser, url: str, query: str = "") -> None:
    tab.open(f"{url}/#new{query}")
    tab.until(PLANNED)


def spec(tab: Browser) -> Any:
    return yaml.safe_load(tab.run("document.querySelector('textarea[name=spec]').value"))


def values(tab: Browser, selector: str) -> list[str]:
    found: list[str] = tab.run(f"[...document.querySelectorAll('{selector}')].map((each) => each.value)")
    return found


def test_the_form_offers_everything_that_the_server_has(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        assert values(tab, "select[name=model] option") == ["tiny"]
        assert sorted(values(tab, "select[name=method] option")) == sorted(get_args(SpecMethod))
        assert sorted(values(tab, "select[name=op] option")) == sorted(OPS)
        assert sorted(values(tab, "select[name=scope] option")) == sorted(get_args(Scope))
        assert sorted(values(tab, "input[name=controls]")) == sorted((*get_args(Selection), "repeat"))
        assert sorted(values(tab, "input[name=baselines]")) == sorted((*get_args(PromptMethod), *VECTORS))
        tasks = [offer["id"] for offer in OFFERS["tasks"](installation.catalog)]
        assert values(tab, "#task-names option") == tasks
        data_sets = [offer["id"] for offer in OFFERS["data-sets"](installation.catalog)]
        assert values(tab, "select[name=data-0] option") == ["", *data_sets]
        (corpus,) = OFFERS["corpora"](installation.catalog)
        assert sorted(values(tab, "input[name=neuron-language]")) == sorted(corpus["languages"])
        assert "French (fr)" in tab.run("document.querySelector('.spec-form').textContent")
        parse_spec(spec(tab))
    assert tab.errors == []


def test_several_operations_are_shown_and_kept(installation: Installation, tab: Browser) -> None:
    ops = [{"op": "set", "patch": ["max"]}, {"op": "scale", "factors": [0, 2]}]
    several = {**SPEC, "interventions": {"languages": ["fr"], "ops": ops}}
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        tab.fill("textarea[name=spec]", yaml.safe_dump(several))
        tab.until("document.querySelector('.operations')")
        shown = tab.run("document.querySelector('.operations').textContent")
        tab.until(PLANNED)
        tab.click("input[name=controls][value=zero]")
        written = spec(tab)
        assert tab.run("document.querySelector('select[name=op]')") is None
    assert shown == "Operations: set max × 1; scale × 0 × 2. Edit them in the text."
    assert written["interventions"]["ops"] == ops
    assert written["interventions"]["controls"] == ["zero"]
    assert tab.errors == []


def test_the_form_writes_the_spec(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        tab.fill("select[name=method]", "average_precision")
        tab.fill("input[name=k]", "20")
        tab.click("button[name=neuron-language-none]")
        for code in ("en", "fr", "tr"):
            tab.click(f"input[name=neuron-language][value={code}]")
        tab.click("button[name=target-none]")
        for code in ("fr", "tr"):
            tab.click(f"input[name=target][value={code}]")
        tab.fill("select[name=op]", "add")
        tab.fill("select[name=magnitude]", "patch:difference")
        tab.fill("input[name=factors]", "0.5, 2")
        tab.fill("input[name=layers]", "each")
        tab.click("input[name=controls][value=zero]")
        tab.fill("input[name=random_draws]", "3")
        for name in ("prompt_native", "diffmean"):
            tab.click(f"input[name=baselines][value={name}]")
        tab.fill("input[name=limit-0]", "7")
        tab.click("button[name=add-task]")
        tab.fill("input[name=task-1]", "generation")
        tab.click("button[name=language-1-all]")
        tab.fill("select[name=search]", "halving")
        written = spec(tab)
        tab.click("button[name=remove-1]")
        tab.click("input[name=controls][value=random]")
        tab.fill("input[name=factors]", "2, x")
        assert not tab.run("document.querySelector('input[name=factors]').checkValidity()")
        changed = spec(tab)
    assert written["neurons"] == {
        "method": "average_precision",
        "corpus": "atlas",
        "languages": ["en", "fr", "tr"],
        "k": 20,
    }
    assert written["interventions"] == {
        "languages": ["fr", "tr"],
        "op": "add",
        "patch": ["difference"],
        "factors": [0.5, 2],
        "layers": "each",
        "controls": ["random", "zero"],
        "random_draws": 3,
        "baselines": ["prompt_native", {"method": "diffmean", "factors": [2, 4, 8]}],
    }
    assert written["search"] == "halving"
    assert written["tasks"][0]["limit"] == 7
    assert written["tasks"][1]["name"] == "generation"
    assert len(written["tasks"][1]["languages"]) > 2
    parse_spec(written)
    assert len(changed["tasks"]) == 1
    assert changed["interventions"]["factors"] == [0.5, 2], "what is not valid is not written"
    assert "random_draws" not in changed["interventions"]


def test_the_form_follows_the_text_and_the_plan_is_shown_before_it_is_sent(
    installation: Installation, tab: Browser
) -> None:
    text = yaml.safe_dump({**SPEC, "name": "no: é", "seed": 7}, allow_unicode=True)
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        tab.fill("textarea[name=spec]", text)
        tab.until("document.querySelector('input[name=name]').value === 'no: é'")
        assert values(tab, "input[name=target]:checked") == ["fr", "tr"]
        assert values(tab, "input[name=limit-0]") == ["4"]
        assert tab.run("document.querySelector('textarea[name=spec]').value") == text
        plan = httpx.post(f"{url}/v1/sweeps/plan", json={**SPEC, "seed": 7}).json()
        for column in ("cells", "requests", "prompt_tokens", "max_new_tokens"):
            cell = tab.run(f"document.querySelector('.plan tfoot [data-column={column}]').textContent")
            assert cell.replace(",", "") == ("–" if plan[column] is None else str(plan[column]))
        assert plan["seconds_from"] in tab.run("document.querySelector('.plan-time').textContent")
        tab.fill("input[name=limit-0]", "3")
        assert spec(tab) == {**SPEC, "name": "no: é", "seed": 7, "tasks": [{**SPEC["tasks"][0], "limit": 3}]}
        tab.click("button[name=submit]")
        tab.until("location.hash.startsWith('#sweeps/sweep')")
        (sweep,) = httpx.get(f"{url}/v1/sweeps").json()["data"]
        assert sweep["spec"]["tasks"][0]["limit"] == 3
        assert sweep["spec"]["seed"] == 7
    assert tab.errors == []


def test_errors_name_the_line_once_and_the_form_waits(installation: Installation, tab: Browser) -> None:
    text = "name: x\nmodel: tiny\nneurons: {method: lape, corpus: atlas, languages: [en, fr]}\n"
    text += "interventions: {op: scale, factors: [2]}\ntasks:\n  - {name: lss, languages: [en], limit: -4}\n"
    error = "document.querySelector('.new .error')"
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        tab.fill("textarea[name=spec]", text)
        tab.until(error)
        message = tab.run(f"{error}.textContent")
        assert message.startswith("tasks.0.limit: ")
        assert message.count("tasks.0.limit") == 1
        assert message.endswith("(line 6, column 34)")
        assert tab.run("document.querySelector('.spec-form').disabled")
        tab.click("button[name=show-line]")
        selected = "(({value, selectionStart, selectionEnd}) => value.slice(selectionStart, selectionEnd))"
        assert tab.run(f"{selected}(document.querySelector('textarea[name=spec]'))") == "limit: -4}"
        tab.fill("textarea[name=spec]", text.replace("-4", "4").replace("tiny", "nobody"))
        tab.until(f"{error}.textContent.includes('nobody')")
        assert tab.run(f"{error}.textContent").startswith("model: ")
        tab.click("button[name=submit]")
        tab.until("!document.querySelector('button[name=submit]').disabled")
        tab.fill("textarea[name=spec]", text.replace("-4", "4"))
        tab.until(f"{PLANNED} && !{error}")
        assert not tab.run("document.querySelector('.spec-form').disabled")


def test_a_sweep_is_cloned_into_the_form(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation, working=False) as (url, _):
        sweep = httpx.post(f"{url}/v1/sweeps", json={**SPEC, "seed": 3}).json()
        open_form(tab, url, f"?from={sweep['id']}")
        assert parse_spec(spec(tab)).to_dict() == sweep["spec"]
        assert set(spec(tab)) == {"name", "model", "neurons", "interventions", "tasks", "seed"}
        assert set(spec(tab)["interventions"]) == {"languages", "op", "factors", "controls"}


def test_any_text_is_written_as_yaml(installation: Installation, tab: Browser) -> None:
    """Line separators, controls and byte order marks too, which YAML would fold or reject."""
    name = "a\u2028b\u2029 c\x85d\x7f\ufeff\uffff \\u2028 é 😀 # : null"
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        tab.fill("input[name=name]", name)
        assert spec(tab)["name"] == name
        tab.fill("input[name=limit-0]", "2")
        tab.until(f"{PLANNED} && !document.querySelector('.new .error')")
        tab.click("button[name=submit]")
        tab.until("location.hash.startsWith('#sweeps/sweep')")
        (sweep,) = httpx.get(f"{url}/v1/sweeps").json()["data"]
        assert sweep["name"] == name


def test_what_was_written_is_there_when_the_user_comes_back(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        open_form(tab, url)
        first = spec(tab)
        tab.fill("input[name=name]", "kept")
        tab.run("location.hash = 'sweeps'")
        tab.until("document.querySelector('a.button[href=\"#new\"]')")
        tab.run("history.back()")
        tab.until(f"{PLANNED} && document.querySelector('input[name=name]').value === 'kept'")
        assert spec(tab) == {**first, "name": "kept"}
        tab.fill("textarea[name=spec]", "name: [unfinished")
        tab.run("location.hash = 'steer'")
        tab.until("document.querySelector('form.steer')")
        tab.run("location.hash = 'new'")
        tab.until("document.querySelector('.spec-text .error')")
        assert tab.run("document.querySelector('textarea[name=spec]').value") == "name: [unfinished"
        tab.click("button[name=anew]")
        tab.until(f"{PLANNED} && !document.querySelector('button[name=anew]')")
        assert spec(tab) == first
        tab.fill("input[name=limit-0]", "2")
        tab.click("button[name=submit]")
        tab.until("location.hash.startsWith('#sweeps/sweep')")
        tab.run("location.hash = 'new'")
        tab.until(PLANNED)
        assert spec(tab) == first, "what was submitted is no draft"


def test_fields_and_values_have_their_names_in_a_spec(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#new")
        tab.until("document.querySelector('select[name=op]')")
        keys = tab.run("[...document.querySelectorAll('.spec-form .field > span code')].map((key) => key.textContent)")
        texts = tab.run("Object.fromEntries([...document.querySelectorAll('option')].map((o) => [o.value, o.text]))")
    assert {"neurons", "top_rate", "op", "patch, statistic", "scope", "limit"} <= set(keys)
    assert not {"model", "method", "corpus", "factors"} & set(keys), "their labels are the same words"
    assert texts["activated"] == "always active [activated]"
    assert texts["lape"] == "LAPE [lape]"
    assert texts[":"] == "1 (the factor alone)"


def test_the_first_corpus_that_fits_the_model_is_proposed(installation: Installation, tab: Browser) -> None:
    with server_in_thread(installation) as (url, _):
        tab.open(f"{url}/#new")
        proposed = tab.run(
            "import('/page/new_sweep/offers.js').then(({defaultCorpus}) => {"
            "  const [atlas, mine, zoo] = ['atlas', 'mine', 'zoo'].map((id) => ({id, languages: ['fr']}));"
            "  return [['atlas', [atlas, mine]], ['gemma', [atlas, mine, zoo]], ['gemma', [atlas]], ['gemma', []]]"
            "    .map((given) => defaultCorpus(...given).id); })"
        )
    assert proposed == ["atlas", "mine", "atlas", ""]


def test_another_model_takes_the_corpus_that_fits_it(installation: Installation, tab: Browser, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for code in ("fr", "de"):
        (tmp_path / "mine" / f"{code}.txt").write_text("Bonjour.\n")
    catalog = installation.catalog
    models = dict.fromkeys(("atlas", "gemma", "tiny"), catalog.models["tiny"])
    corpora = {**catalog.corpora, "mine": tmp_path / "mine"}
    offered = replace(installation, catalog=replace(catalog, models=models, corpora=corpora))
    with server_in_thread(offered) as (url, _):
        tab.open(f"{url}/#new")
        tab.until("document.querySelector('select[name=corpus]')?.value === 'atlas'")
        tab.fill("select[name=model]", "gemma")
        tab.until("document.querySelector('select[name=corpus]').value === 'mine'")
        assert sorted(values(tab, "input[name=neuron-language]")) == ["de", "fr"]
        assert values(tab, "input[name=target]:checked") == ["fr"]
