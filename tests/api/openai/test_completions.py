from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from benchmarks.models.adapter import tiny_adapter
from tests.api.openai.completion import REQUEST, SCALE, complete, pieces
from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


async def test_a_completion_has_openais_format(installation: Installation) -> None:
    async with running_server(installation) as server:
        body = await complete(server, logprobs=0, user="me", n=1, echo=False)
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["model"] == "tiny"
    (choice,) = body["choices"]
    assert choice["index"] == 0
    assert len(choice["text"].split()) == 5
    assert choice["finish_reason"] == "length"
    assert len(choice["logprobs"]["token_logprobs"]) == len(choice["logprobs"]["tokens"]) == 5
    usage = body["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5


async def test_a_stream_has_the_same_text_in_chunks(installation: Installation) -> None:
    async with running_server(installation) as server:
        whole = await complete(server)
        answer = await server.http.post(
            "/v1/completions", json={**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = pieces(answer.text)
    assert done == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert len(parsed) == 5
    assert "".join(chunk["choices"][0]["text"] for chunk in parsed) == whole["choices"][0]["text"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in parsed] == [None] * 4 + ["length"]
    assert len({chunk["id"] for chunk in parsed}) == 1
    assert json.loads(usage)["usage"] == whole["usage"]
    assert json.loads(usage)["choices"] == []


async def test_an_intervention_steers_with_the_only_neuron_set_or_a_named_one_and_says_which(
    installation: Installation,
) -> None:
    async with running_server(installation) as server:
        await server.done()
        (neurons,) = (await server.http.get("/v1/neuron-sets")).json()["data"]
        plain = await complete(server)
        steered = await complete(server, intervention=SCALE)
        named = await complete(server, intervention=SCALE, neurons=neurons["id"])
    assert steered["choices"][0]["text"] != plain["choices"][0]["text"]
    assert named["choices"][0]["text"] == steered["choices"][0]["text"]
    assert (plain["neuron_set"], steered["neuron_set"], named["neuron_set"]) == (None, neurons["id"], neurons["id"])


DRIFT = {"min_characters": 20, "window": 60, "every": 10, "confidence": 0}
"""The words of the fake engine are not French, so an answer that should be drifts for good."""


async def test_an_answer_that_drifts_says_which_of_its_tokens_were_steered(installation: Installation) -> None:
    drifting = {**SCALE, "when": {"drift": DRIFT}}
    messages = [{"role": "user", "content": "Bonjour"}]
    async with running_server(installation) as server:
        await server.done()
        plain = await complete(server, max_tokens=20, n=2)
        steered = await complete(server, max_tokens=20, n=2, intervention=drifting)
        body = {**REQUEST, "intervention": drifting, "max_tokens": 20, "stream": True}
        stream = await server.http.post("/v1/completions", json=body)
        chat = {"model": "tiny", "messages": messages, "max_tokens": 20, "temperature": 0, "intervention": drifting}
        whole = (await server.http.post("/v1/chat/completions", json=chat)).json()
        deltas = await server.http.post("/v1/chat/completions", json={**chat, "stream": True})
    assert all("steered_spans" not in choice for choice in plain["choices"])
    for choice, unsteered in zip(steered["choices"], plain["choices"], strict=True):
        ((first, end),) = choice["steered_spans"]
        assert (3 < first < 12, end) == (True, 20)
        words, others = choice["text"].split(), unsteered["text"].split()
        assert words[: first + 1] == others[: first + 1]
        assert words[first + 1 :] != others[first + 1 :]
    for streamed, expected in ((stream, steered), (deltas, whole)):
        choices = [choice for piece in pieces(streamed.text)[:-1] for choice in json.loads(piece)["choices"]]
        spans = [span for choice in choices for span in choice.get("steered_spans", [])]
        assert spans == [[token, token + 1] for token in range(*expected["choices"][0]["steered_spans"][0])]


async def test_a_prompt_alone_has_no_running_text(installation: Installation) -> None:
    drifting = {**SCALE, "when": "drift"}
    async with running_server(installation) as server:
        await server.http.post("/v1/interventions", json={"name": "drifting", "intervention": drifting})
        for change, param in (
            ({"intervention": drifting}, "intervention.when"),
            ({"interventions": [None, drifting], "prompt": ["a", "b"]}, "interventions.1.when"),
            ({"model": "tiny+drifting"}, "intervention.when"),
        ):
            body = {**REQUEST, "max_tokens": 0, "echo": True, **change}
            answer = await server.http.post("/v1/completions", json=body)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == param


async def test_several_interventions_give_the_same_answers_as_one_at_a_time(installation: Installation) -> None:
    prompts = ["The capital of France is", "One, two,"]
    interventions = [None, SCALE, {**SCALE, "factor": 5.0}]
    async with running_server(installation) as server:
        await server.done()
        (neurons,) = (await server.http.get("/v1/neuron-sets")).json()["data"]
        together = await complete(server, prompt=prompts, interventions=interventions, n=2, temperature=1, seed=1)
        alone = [
            (await complete(server, prompt=prompts, intervention=intervention, n=2, temperature=1, seed=1))
            for intervention in interventions
        ]
        body = {**REQUEST, "prompt": prompts, "interventions": interventions, "stream": True}
        stream = await server.http.post("/v1/completions", json=body)
        unsteered = await complete(server, interventions=[None])
    texts = [choice["text"] for choice in together["choices"]]
    assert texts == [choice["text"] for each in alone for choice in each["choices"]]
    assert [choice["index"] for choice in together["choices"]] == list(range(12))
    assert len(set(texts)) > 4
    assert (together["neuron_set"], unsteered["neuron_set"]) == (neurons["id"], None)
    assert together["usage"]["completion_tokens"] == sum(each["usage"]["completion_tokens"] for each in alone)
    events = [json.loads(piece) for piece in pieces(stream.text)[:-1]]
    sets = {choice["index"]: event["neuron_set"] for event in events for choice in event["choices"]}
    assert sets == {0: None, 1: None} | dict.fromkeys(range(2, 6), neurons["id"])


async def test_an_error_names_the_position_of_its_intervention(installation: Installation) -> None:
    neurons = {"fr": {"0": [1, 2]}, "tr": {"1": [3]}}
    async with running_server(installation) as server:
        created = await server.http.post("/v1/neuron-sets", json={"model": "tiny", "neurons": neurons})

        async def refused(**changes: Any) -> dict[str, Any]:
            answer = await server.http.post("/v1/completions", json={**REQUEST, **changes})
            assert answer.status_code == 400, answer.text
            error: dict[str, Any] = answer.json()["error"]
            return error

        layers = [None, {**SCALE, "languages": ["tr"], "layers": [1]}, {**SCALE, "layers": [1]}]
        error = await refused(interventions=layers, neurons=created.json()["id"], prompt=["a", "b"])
        assert (error["code"], error["param"]) == ("no_neurons", "interventions.2.layers")
        error = await refused(interventions=[SCALE, {**SCALE, "op": "scal"}])
        assert error["param"] == "interventions.1.op"
        error = await refused(interventions=[SCALE], intervention=SCALE)
        assert error["param"] == "interventions"
        error = await refused(interventions=[None, None], neurons=created.json()["id"])
        assert error["param"] == "neurons"
        error = await refused(interventions=[SCALE] * 256, prompt=["a"] * 5)
        assert error["param"] == "interventions"
        error = await refused(interventions=[SCALE] * 100, max_tokens=1000)
        assert error["code"] == "max_tokens_too_large"


async def test_steering_that_would_change_nothing_is_refused(installation: Installation) -> None:
    async with running_server(installation) as server:
        neurons = {"fr": {"0": [1, 2]}, "ht": {}}
        created = await server.http.post("/v1/neuron-sets", json={"model": "tiny", "neurons": neurons})

        async def refused(**changes: Any) -> dict[str, Any]:
            for stream in (False, True):
                body = {**REQUEST, "neurons": created.json()["id"], "stream": stream, **changes}
                answer = await server.http.post("/v1/completions", json=body)
                assert answer.status_code == 400, answer.text
            error: dict[str, Any] = answer.json()["error"]
            return error

        error = await refused(intervention={**SCALE, "languages": ["ht"]})
        assert (error["code"], error["param"]) == ("no_neurons", "intervention.languages")
        error = await refused(intervention={**SCALE, "layers": [1]})
        assert (error["code"], error["param"]) == ("no_neurons", "intervention.layers")
        error = await refused()
        assert (error["code"], error["param"]) == ("invalid_request", "neurons")


async def test_statistics_and_weights_tell_interventions_apart(installation: Installation) -> None:
    forms = [
        {"languages": ["fr"], "op": "set", "statistic": "p97.5"},
        {"languages": ["fr"], "op": "set", "statistic": "p97"},
        {"languages": {"fr": 0.5}, "op": "set", "statistic": "p97.5"},
        {"languages": {"fr": 1}, "op": "set", "statistic": "p97.50", "factor": 1},
    ]
    async with running_server(installation) as server:
        await server.done()
        texts = [(await complete(server, intervention=form))["choices"][0]["text"] for form in forms]
    assert len(set(texts)) == 3
    assert texts[0] == texts[3]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echoed_prompt_precedes_each_choice_with_its_log_probabilities(
    installation: Installation, *, stream: bool
) -> None:
    async with running_server(installation) as server:
        plain = await complete(server, logprobs=1, n=2)
        asked = {**REQUEST, "logprobs": 1, "n": 2, "echo": True, "stream": stream}
        answer = await server.http.post("/v1/completions", json=asked)
    if stream:
        events = [json.loads(piece) for piece in pieces(answer.text)[:-1]]
        choices = [choice for event in events for choice in event["choices"]]
    else:
        choices = answer.json()["choices"]
    prompt = REQUEST["prompt"]
    for index, expected in enumerate(plain["choices"]):
        parts = [choice for choice in choices if choice["index"] == index]
        assert "".join(part["text"] for part in parts) == prompt + expected["text"]
        logprobs = {name: [item for part in parts for item in part["logprobs"][name]] for name in expected["logprobs"]}
        assert logprobs["tokens"] == [*prompt, *expected["logprobs"]["tokens"]]
        assert logprobs["text_offset"][len(prompt) :] == [
            offset + len(prompt) for offset in expected["logprobs"]["text_offset"]
        ]
        assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
        assert all(value < 0 for value in logprobs["token_logprobs"][1:])
        assert logprobs["token_logprobs"][len(prompt) :] == expected["logprobs"]["token_logprobs"]


async def test_an_echo_without_tokens_to_generate_scores_the_prompt_alone(installation: Installation) -> None:
    async with running_server(installation) as server:
        body = await complete(server, echo=True, max_tokens=0, logprobs=0)
    (choice,) = body["choices"]
    assert choice["text"] == REQUEST["prompt"]
    assert len(choice["logprobs"]["token_logprobs"]) == len(REQUEST["prompt"])
    assert body["usage"]["completion_tokens"] == 0


async def test_a_stop_string_ends_a_completion(installation: Installation) -> None:
    async with running_server(installation) as server:
        text = (await complete(server))["choices"][0]["text"]
        word = text.split()[2]
        stopped = await complete(server, stop=word)
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert word not in stopped["choices"][0]["text"]


async def test_tokens_and_words_are_chosen_and_end_an_answer_as_asked(installation: Installation) -> None:
    async with running_server(installation) as server:

        async def answer(**changes: Any) -> tuple[list[str], str]:
            (choice,) = (await complete(server, **changes))["choices"]
            return choice["text"].split(), choice["finish_reason"]

        words, _ = await answer()
        (choice,) = (await complete(server, logprobs=0))["choices"]
        ids = choice["logprobs"]["token_ids"]
        end = next(index for index in range(1, 5) if ids[index] not in ids[:index])
        stop_token = {"stop_token_ids": [ids[end]]}
        assert await answer(**stop_token) == (words[:end], "stop")
        assert await answer(**stop_token, include_stop_str_in_output=True) == (words[: end + 1], "stop")
        assert await answer(stop=words[end], include_stop_str_in_output=True) == (words[: end + 1], "stop")
        assert await answer(stop=words[0], min_tokens=5) == (words, "length")
        assert (await answer(logit_bias={"0": 100}))[0] == ["amber"] * 5
        assert words[0] not in (await answer(bad_words=[words[0]]))[0]
        kept, _ = await answer(**stop_token, min_tokens=5)
        assert len(kept) == 5
        assert words[end] not in kept


async def test_a_completion_uses_the_adapter_that_it_names(installation: Installation, tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    catalog = replace(installation.catalog, adapters={"tiny": {"formal": adapter}})
    async with running_server(replace(installation, catalog=catalog)) as server:
        (model,) = (await server.http.get("/v1/models")).json()["data"]
        plain, adapted = await complete(server), await complete(server, adapter="formal")
        refused = await server.http.post("/v1/completions", json={**REQUEST, "adapter": "nope"})
    assert model["adapters"] == ["formal"]
    assert adapted["choices"][0]["text"] != plain["choices"][0]["text"]
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unknown_name", "adapter")
    assert error["message"] == "unknown adapter of model tiny 'nope'; known: formal"


async def test_the_name_of_an_adapter_stands_for_its_model_with_it(installation: Installation, tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    models = {"tiny": installation.catalog.models["tiny"], "other": tmp_path}
    adapters = {"tiny": {"formal": adapter, "both": adapter}, "other": {"both": adapter}}
    catalog = replace(installation.catalog, models=models, adapters=adapters)
    async with running_server(replace(installation, catalog=catalog)) as server:
        named = await complete(server, model="formal")
        assert named["model"] == "formal"
        assert named["choices"] == (await complete(server, adapter="formal"))["choices"]
        for model, code in (("both", 400), ("nope", 404)):
            refused = await server.http.post("/v1/completions", json={**REQUEST, "model": model})
            assert (refused.status_code, refused.json()["error"]["param"]) == (code, "model")
        twice = await server.http.post("/v1/completions", json={**REQUEST, "model": "formal", "adapter": "formal"})
        assert (twice.status_code, twice.json()["error"]["param"]) == (404, "model")
