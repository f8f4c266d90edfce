"""Requests written for vLLM's own server with the plug-in steer here too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat
from api.openai.completions.request import parse_completion
from api.openai.responses.request import parse_response_request
from jobs.execution import CompletionCall
from tests.api.openai.completion import SCALE, complete
from tests.api.running_server import running_server
from tests.worker.installation import Installation


def of_completion(**fields: Any) -> CompletionCall:
    (call,) = parse_completion({"model": "m", "prompt": "a", **fields}).to_calls(Limits())
    return call


def of_chat(**fields: Any) -> CompletionCall:
    return parse_chat({"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}).to_call(Limits())


def of_response(**fields: Any) -> CompletionCall:
    return parse_response_request({"model": "m", "input": "a", **fields}).to_call(Limits())


ENDPOINTS = (of_completion, of_chat, of_response)


def test_the_argument_is_the_intervention() -> None:
    for call in ENDPOINTS:
        for value in (SCALE, json.dumps(SCALE)):
            steered = call(vllm_xargs={"ampsweep": value}, neurons="ns_1")
            assert steered == call(intervention=SCALE, neurons="ns_1")
            assert steered.intervention == Intervention.from_dict(SCALE)
        named = call(vllm_xargs={"ampsweep": "fr"})
        assert (named.intervention, named.preset) == (None, "fr")
        assert call(vllm_xargs=None) == call()


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("intervention", {"vllm_xargs": {"ampsweep": SCALE}, "intervention": SCALE}),
        ("vllm_xargs.other", {"vllm_xargs": {"ampsweep": SCALE, "other": 1}}),
        ("vllm_xargs.ampsweep", {"vllm_xargs": {}}),
        ("vllm_xargs.ampsweep", {"vllm_xargs": {"ampsweep": "{"}}),
        ("vllm_xargs.ampsweep", {"vllm_xargs": {"ampsweep": "a name"}}),
        ("vllm_xargs.ampsweep.factor", {"vllm_xargs": {"ampsweep": {**SCALE, "factor": "3"}}}),
        ("vllm_xargs.ampsweep.factor", {"vllm_xargs": {"ampsweep": json.dumps({**SCALE, "factor": "3"})}}),
        ("vllm_xargs.ampsweep.tokens.end", {"vllm_xargs": {"ampsweep": json.dumps({**SCALE, "tokens": {"end": 0}})}}),
    ],
)
def test_a_wrong_argument_is_refused_by_its_field(param: str, fields: dict[str, Any]) -> None:
    for call in ENDPOINTS:
        with pytest.raises(InvalidRequest) as refused:
            call(**fields)
        assert refused.value.param == param


@pytest.mark.parametrize("value", ["", "more-french,more-turkish", "more french"])
def test_an_error_says_what_a_name_looks_like(value: str) -> None:
    for call in ENDPOINTS:
        with pytest.raises(
            InvalidRequest, match="must be an intervention as JSON, or the name of one; a name has 1 to 64"
        ):
            call(vllm_xargs={"ampsweep": value})


def test_a_list_of_interventions_is_the_only_one() -> None:
    with pytest.raises(InvalidRequest) as refused:
        of_completion(vllm_xargs={"ampsweep": SCALE}, interventions=[None, SCALE])
    assert refused.value.param == "interventions"


@pytest.mark.anyio
async def test_a_server_steers_by_the_argument_and_names_it_in_errors(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.done()
        plain = await complete(server)
        steered = await complete(server, intervention=SCALE)
        preset = {"name": "fr", "intervention": SCALE}
        assert (await server.http.post("/v1/interventions", json=preset)).status_code == 201
        by_argument = [
            await complete(server, vllm_xargs={"ampsweep": value}) for value in (SCALE, json.dumps(SCALE), "fr")
        ]
        wrong = {
            "vllm_xargs.ampsweep": "nope",
            "vllm_xargs.ampsweep.languages": {**SCALE, "languages": ["xx"]},
        }
        for param, value in wrong.items():
            body = {"model": "tiny", "prompt": "a", "vllm_xargs": {"ampsweep": value}}
            answer = await server.http.post("/v1/completions", json=body)
            assert answer.json()["error"]["param"] == param
    texts = [body["choices"][0]["text"] for body in by_argument]
    assert texts == [steered["choices"][0]["text"]] * 3
    assert texts[0] != plain["choices"][0]["text"]
