"""The tokens of prompts and the texts of tokens: `/tokenize` and `/detokenize`, as on vLLM's server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from api.auth.api_keys import KeyScope
from api.auth.limits import Limits
from benchmarks.models.adapter import tiny_adapter
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

CHAT = [{"role": "developer", "content": "Hi"}, {"role": "user", "content": "é"}]


async def ask(server: Server, path: str, **body: Any) -> dict[str, Any]:
    answer = await server.http.post(path, json={"model": "tiny", **body})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def test_a_text_and_a_chat_become_tokens_and_text_again(installation: Installation) -> None:
    special, answer = 256, "assistant:"  # of the fake engine, whose tokens are bytes
    async with running_server(installation) as server:
        await server.pool.ready()
        text = await ask(server, "/tokenize", prompt="né", return_token_strs=True)
        plain = await ask(server, "/tokenize", prompt="né", add_special_tokens=False, return_token_strs=False)
        chat = await ask(server, "/tokenize", messages=CHAT)
        unanswered = await ask(server, "/tokenize", messages=CHAT, add_generation_prompt=False, add_special_tokens=True)
        back = await ask(server, "/detokenize", tokens=chat["tokens"])
        nothing = await ask(server, "/detokenize", tokens=[])
        tool = {"type": "function", "function": {"name": "weather"}}
        with_tool = await ask(server, "/tokenize", messages=CHAT, tools=[tool])
    assert bytes(with_tool["tokens"]).decode().startswith('tool: {"type": "function"')
    assert text == {
        "count": 4,
        "max_model_len": 2048,
        "tokens": [special, *"né".encode()],
        "token_strs": ["<special>", "6e", "c3", "a9"],
    }
    assert plain == {"count": 3, "max_model_len": 2048, "tokens": [*"né".encode()], "token_strs": None}
    assert back == {"prompt": f"system: Hi\nuser: é\n{answer}"}
    assert unanswered["tokens"] == [special, *chat["tokens"][: -len(answer)]]
    assert nothing == {"prompt": ""}


async def test_a_model_is_named_by_its_preset_or_adapter_or_not_at_all(
    installation: Installation, tmp_path: Path
) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    catalog = replace(installation.catalog, adapters={"tiny": {"formal": adapter}})
    async with running_server(replace(installation, catalog=catalog)) as server:
        await server.pool.ready()
        preset = {"name": "fr", "intervention": {"languages": ["fr"], "op": "scale", "factor": 2}}
        assert (await server.http.post("/v1/interventions", json=preset)).status_code == 201
        names = ("tiny", "tiny+fr", "formal", None)
        named = [await ask(server, "/tokenize", model=name, prompt="a") for name in names]
        wrong = await server.http.post("/tokenize", json={"model": "nope", "prompt": "a"})
    assert named == [named[0]] * 4
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")


async def test_several_models_need_a_name(installation: Installation) -> None:
    models = {**installation.catalog.models, "other": installation.catalog.models["tiny"]}
    catalog = replace(installation.catalog, models=models)
    async with running_server(replace(installation, catalog=catalog)) as server:
        answer = await server.http.post("/detokenize", json={"tokens": [1]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "model is required; name one of: other, tiny"


@pytest.mark.parametrize(
    ("path", "param", "body"),
    [
        ("/tokenize", "prompt", {}),
        ("/tokenize", "prompt", {"prompt": 3}),
        ("/tokenize", "messages", {"prompt": "a", "messages": CHAT}),
        ("/tokenize", "messages.0.role", {"messages": [{"role": "robot", "content": "x"}]}),
        ("/tokenize", "add_generation_prompt", {"prompt": "a", "add_generation_prompt": True}),
        ("/tokenize", "tools", {"prompt": "a", "tools": []}),
        ("/tokenize", "continue_final_message", {"prompt": "a", "continue_final_message": True}),
        (
            "/tokenize",
            "add_generation_prompt",
            {"messages": CHAT, "continue_final_message": True, "add_generation_prompt": True},
        ),
        ("/tokenize", "chat_template_kwargs.tools", {"messages": CHAT, "chat_template_kwargs": {"tools": []}}),
        ("/tokenize", "chat_template", {"messages": CHAT, "chat_template": ""}),
        ("/detokenize", "tokens", {}),
        ("/detokenize", "tokens.1", {"tokens": [1, -1]}),
        ("/detokenize", "tokens.1", {"tokens": [1, 257]}),
        ("/detokenize", "prompt", {"prompt": "a", "tokens": [1]}),
    ],
)
async def test_a_wrong_field_is_refused_by_its_name(
    shared_server: Server, path: str, param: str, body: dict[str, Any]
) -> None:
    answer = await shared_server.http.post(path, json={"model": "tiny", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_the_limit_of_a_prompt_holds(installation: Installation) -> None:
    async with running_server(installation, limits=Limits(prompt_chars=3)) as server:
        await server.pool.ready()
        for path, param, body in (
            ("/tokenize", "prompt", {"prompt": "abcd"}),
            ("/tokenize", "messages", {"messages": [{"role": "user", "content": "abcd"}]}),
            ("/detokenize", "tokens", {"tokens": [1, 2, 3, 4]}),
        ):
            answer = await server.http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "prompt_too_long")
            assert answer.json()["error"]["param"] == param
        assert (await ask(server, "/tokenize", prompt="abc"))["count"] == 4


async def test_tokenization_needs_a_key_that_may_submit(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.pool.ready()
        _, reader = server.key(KeyScope.READ)
        _, submitter = server.key(KeyScope.SUBMIT)
        for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [97]})):
            statuses = [
                (await server.http.post(path, json=body, headers=headers)).status_code
                for headers in ({}, reader, submitter)
            ]
            assert statuses == [401, 403, 200]
