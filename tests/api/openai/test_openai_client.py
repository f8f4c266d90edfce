"""The `openai` client with a server on a socket, with and without streaming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from api.auth.api_keys import KeyScope
from tests.api.running_server import LIMITS, Server, running_server
from tests.api.socket_server import GenerationCounter, server_on_socket
from tests.worker.installation import Installation

pytestmark = [pytest.mark.processes, pytest.mark.anyio]

PROMPT = "The capital of France is"
CHAT: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": [{"type": "text", "text": "The capital "}, {"type": "text", "text": "of France?"}]},
]
SCALE = {"languages": ["fr"], "op": "scale", "factor": 2.0}


@asynccontextmanager
async def client(installation: Installation, **engine: Any) -> AsyncIterator[tuple[AsyncOpenAI, Server]]:
    async with running_server(installation, **engine) as server, server_on_socket(server) as url:
        token = server.key(KeyScope.READ, KeyScope.SUBMIT)[1]["Authorization"].removeprefix("Bearer ")
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0) as talking:
            yield talking, server


async def steerable(server: Server) -> None:
    """Identify a neuron set by running a sweep."""
    headers = server.key(KeyScope.ADMIN)[1]
    server.http.headers.update(headers)
    await server.done()


async def test_models_are_listed_and_retrieved(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        assert [model.id async for model in talking.models.list()] == ["tiny"]
        assert (await talking.models.retrieve("tiny")).object == "model"


async def test_a_completion_and_its_stream_have_the_same_text(installation: Installation) -> None:
    sampling = {"max_tokens": 5, "temperature": 1, "seed": 1, "n": 2, "logprobs": 2}
    params: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, **sampling}
    async with client(installation) as (talking, _):
        whole = await talking.completions.create(**params)
        stream = await talking.completions.create(**params, stream=True, stream_options={"include_usage": True})
        pieces = [piece async for piece in stream]
    assert whole.usage is not None
    assert (whole.usage.completion_tokens, whole.usage.total_tokens) == (10, 10 + whole.usage.prompt_tokens)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert whole.choices[0].text != whole.choices[1].text
    assert pieces[-1].choices == []
    assert pieces[-1].usage == whole.usage
    assert {piece.usage for piece in pieces[:-1]} == {None}
    assert len({piece.id for piece in pieces}) == 1
    for choice in whole.choices:
        choice_pieces = [piece.choices[0] for piece in pieces[:-1] if piece.choices[0].index == choice.index]
        assert "".join(piece.text for piece in choice_pieces) == choice.text
        assert [piece.finish_reason for piece in choice_pieces] == [None] * 4 + ["length"]
        choice_logprobs = choice.logprobs
        assert choice_logprobs is not None
        assert "".join(choice_logprobs.tokens or []) == choice.text
        assert [
            piece.logprobs.token_logprobs[0]
            for piece in choice_pieces
            if piece.logprobs and piece.logprobs.token_logprobs
        ] == (choice_logprobs.token_logprobs)
        assert [
            piece.logprobs.text_offset[0] for piece in choice_pieces if piece.logprobs and piece.logprobs.text_offset
        ] == (choice_logprobs.text_offset)
        for token, logprob, likely, offset in zip(
            choice_logprobs.tokens or [],
            choice_logprobs.token_logprobs or [],
            choice_logprobs.top_logprobs or [],
            choice_logprobs.text_offset or [],
            strict=True,
        ):
            assert likely[token] == logprob
            assert len(likely) == 2
            assert choice.text[offset:].startswith(token)


async def test_a_chat_and_its_stream_have_the_same_text(installation: Installation) -> None:
    params: dict[str, Any] = {"model": "tiny", "messages": CHAT, "max_completion_tokens": 4, "n": 2, "seed": 3}
    logprob_params: dict[str, Any] = {"logprobs": True, "top_logprobs": 3}
    async with client(installation) as (talking, _):
        whole = await talking.chat.completions.create(**params, **logprob_params)
        stream = await talking.chat.completions.create(
            **params, **logprob_params, stream=True, stream_options={"include_usage": True}
        )
        *pieces, last = [piece async for piece in stream]
        plain = await talking.chat.completions.create(**params)
        old_name = await talking.chat.completions.create(model="tiny", messages=CHAT, max_tokens=4, n=2, seed=3)
    assert whole.object == "chat.completion"
    assert last.usage == whole.usage
    assert plain.choices[0].logprobs is None
    assert [choice.message for choice in plain.choices] == [choice.message for choice in whole.choices]
    assert [choice.message for choice in old_name.choices] == [choice.message for choice in whole.choices]
    for choice in whole.choices:
        choice_pieces = [piece.choices[0] for piece in pieces if piece.choices[0].index == choice.index]
        assert choice_pieces[0].delta.role == choice.message.role == "assistant"
        assert "".join(piece.delta.content or "" for piece in choice_pieces) == choice.message.content
        assert [piece.finish_reason for piece in choice_pieces] == [None] * (len(choice_pieces) - 1) + [
            choice.finish_reason
        ]
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        streamed = [token for piece in choice_pieces if piece.logprobs for token in piece.logprobs.content or []]
        assert streamed == choice.logprobs.content
        for token in choice.logprobs.content:
            assert bytes(token.bytes or []).decode() == token.token
            assert len(token.top_logprobs) == 3
            assert token.top_logprobs[0].logprob == token.logprob


@pytest.mark.parametrize("chat", [False, True])
async def test_each_event_counts_the_tokens_of_its_choice_so_far(installation: Installation, *, chat: bool) -> None:
    sampling = {"max_tokens": 3, "temperature": 1, "seed": 1, "n": 2, "stream": True}
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with client(installation) as (talking, _):
        create: Any = talking.chat.completions.create if chat else talking.completions.create
        asked = {"messages": CHAT} if chat else {"prompt": PROMPT}
        stream = await create(model="tiny", **asked, **sampling, stream_options=options)
        *pieces, last = [piece async for piece in stream]
    assert last.choices == []
    assert last.usage.completion_tokens == 6
    for index in (0, 1):
        usages = [piece.usage for piece in pieces if piece.choices[0].index == index]
        counts = [usage.completion_tokens for usage in usages]
        assert sorted(set(counts)) == [1, 2, 3]
        assert counts == sorted(counts)
        assert {usage.prompt_tokens for usage in usages} == {last.usage.prompt_tokens}
        assert all(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens for usage in usages)


async def test_a_chat_with_tools_is_answered(installation: Installation) -> None:
    """The tools and the calls are part of the prompt, and so change the answer of the fake engine."""
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    called: Any = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    params: dict[str, Any] = {"model": "tiny", "max_completion_tokens": 4}
    async with client(installation) as (talking, _):
        create = talking.chat.completions.create
        plain = await create(**params, messages=CHAT)
        offered = await create(**params, messages=CHAT, tools=[tool], tool_choice="auto")
        unused = await create(**params, messages=CHAT, tools=[tool], tool_choice="none")
        answered = [
            *CHAT,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        ]
        after = await create(**params, messages=cast("Any", answered), tools=[tool])
    texts = [answer.choices[0].message.content for answer in (plain, offered, after)]
    assert len(set(texts)) == 3
    assert unused.choices[0].message.content == texts[0]
    assert after.usage is not None
    assert offered.usage is not None
    assert after.usage.prompt_tokens > offered.usage.prompt_tokens


async def test_an_intervention_is_sent_in_the_extra_body(installation: Installation) -> None:
    async with client(installation) as (talking, server):
        await steerable(server)
        params: dict[str, Any] = {"model": "tiny", "temperature": 0}
        steered = {"intervention": SCALE, "neurons": installation.neuron_sets.infos()[0].id}
        plain = await talking.completions.create(**params, prompt=PROMPT)
        other = await talking.completions.create(**params, prompt=PROMPT, extra_body=steered)
        again = await talking.completions.create(**params, prompt=PROMPT, extra_body={"intervention": SCALE})
        chat = await talking.chat.completions.create(**params, messages=CHAT, max_tokens=4)
        stream = await talking.chat.completions.create(
            **params, messages=CHAT, max_tokens=4, stream=True, extra_body=steered
        )
        steered_chat = "".join([piece.choices[0].delta.content or "" async for piece in stream])
    assert plain.choices[0].text != other.choices[0].text == again.choices[0].text
    assert steered_chat
    assert steered_chat != chat.choices[0].message.content


async def test_a_stop_string_ends_an_answer(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        params: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "seed": 1}
        text = (await talking.completions.create(**params)).choices[0].text
        word = text.split()[3]
        stopped = (await talking.completions.create(**params, stop=["nowhere", word])).choices[0]
    assert (stopped.finish_reason, stopped.text) == ("stop", text[: text.index(word)])


async def test_the_same_seed_gives_the_same_text(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        texts = [
            (await talking.completions.create(model="tiny", prompt=PROMPT, seed=seed)).choices[0].text
            for seed in (1, 1, 2)
        ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("change", "kind", "code", "param"),
    [
        ({"suffix": "x"}, openai.BadRequestError, "invalid_request", "suffix"),
        ({"model": "nope"}, openai.NotFoundError, "unknown_name", "model"),
        ({"prompt": "x" * 3000}, openai.BadRequestError, "prompt_too_long", "prompt"),
        ({"extra_body": {"neurons": "ns_x", "intervention": SCALE}}, openai.NotFoundError, "not_found", "neurons.id"),
        ({"extra_headers": {"Authorization": "Bearer x"}}, openai.AuthenticationError, "invalid_api_key", None),
        ({"prompt": "crash"}, openai.InternalServerError, "engine_failed", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_raised_as_the_openai_clients_exceptions(
    installation: Installation,
    change: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    async with client(installation, fail_on="crash") as (talking, _):
        with pytest.raises(kind) as failed:
            await talking.completions.create(**{"model": "tiny", "prompt": PROMPT, "stream": stream, **change})
    assert (failed.value.code, failed.value.param) == (code, param)
    assert failed.value.request_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", []),
        ("messages", "hello"),
        ("messages.0.role", [{"role": "robot", "content": "x"}]),
        ("messages.0.content", [{"role": "user"}]),
        (
            "messages.0.content",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
        ),
        ("messages.0.content", [{"role": "user", "content": []}]),
        ("messages.0.name", [{"role": "user", "content": "x", "name": "me"}]),
        ("top_logprobs", 2),
        ("max_tokens", 3),
        ("tools", [{"type": "function"}]),
        ("response_format.type", {"type": "xml"}),
        ("response_format.json_schema", {"type": "json_schema"}),
        ("response_format.json_schema", {"type": "text", "json_schema": {"name": "a", "schema": {}}}),
        ("response_format.json_schema.schema", {"type": "json_schema", "json_schema": {"name": "a"}}),
        ("prompt", "x"),
    ],
)
async def test_an_unsupported_chat_is_refused_by_field(installation: Installation, field: str, value: Any) -> None:
    async with running_server(installation, working=False) as server:
        body = {"model": "tiny", "messages": CHAT, "max_completion_tokens": 2, field.partition(".")[0]: value}
        answer = await server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(field)


async def test_an_answers_message_can_be_sent_back(installation: Installation) -> None:
    params: dict[str, Any] = {"model": "tiny", "max_completion_tokens": 3, "temperature": 0}
    async with client(installation) as (talking, _):
        first = (await talking.chat.completions.create(messages=CHAT, **params)).choices[0].message
        assert first.content is not None
        texts = set()
        for sent in (first, first.model_dump(), {**first.model_dump(), "annotations": [], "tool_calls": []}):
            messages = cast("list[ChatCompletionMessageParam]", [*CHAT, sent, {"role": "user", "content": "Why?"}])
            again = await talking.chat.completions.create(messages=messages, **params)
            texts.add(again.choices[0].message.content)
        plain: list[ChatCompletionMessageParam] = [
            *CHAT,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": "Why?"},
        ]
        wanted = (await talking.chat.completions.create(messages=plain, **params)).choices[0].message.content
    assert texts == {wanted}


async def test_errors_are_the_exceptions_that_the_clients_users_expect(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        with pytest.raises(openai.NotFoundError):
            await talking.completions.create(model="nope", prompt=PROMPT)
        with pytest.raises(openai.NotFoundError):
            await talking.chat.completions.create(model="nope", messages=CHAT, stream=True)
        with pytest.raises(openai.NotFoundError):
            await talking.models.retrieve("nope")
        for wrong in ({"temperature": 3.0}, {"max_tokens": 0}, {"extra_query": {"colour": "1"}}):
            with pytest.raises(openai.BadRequestError) as caught:
                await talking.completions.create(model="tiny", prompt=PROMPT, **cast("Any", wrong))
            assert caught.value.param in ("temperature", "max_tokens", "colour")


@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_are_answered_in_order_as_they_are_alone(
    installation: Installation, stream: bool
) -> None:
    prompts: list[Any] = [PROMPT, "Once upon a time", [7, 8, 9]]
    sampling = {"max_tokens": 4, "temperature": 1, "seed": 5, "n": 2, "logprobs": 1}
    params: dict[str, Any] = {"model": "tiny", **sampling}
    separate, together = dict[int, str](), dict[int, str]()
    async with client(installation) as (talking, _):
        single = [await talking.completions.create(prompt=prompt, **params) for prompt in prompts]
        for position, answer in enumerate(single):
            separate |= {2 * position + choice.index: choice.text for choice in answer.choices}
        if stream:
            options: dict[str, Any] = {"stream_options": {"include_usage": True}}
            usage = None
            async for piece in await talking.completions.create(prompt=prompts, stream=True, **params, **options):
                usage = piece.usage
                for choice in piece.choices:
                    together[choice.index] = together.get(choice.index, "") + choice.text
        else:
            whole = await talking.completions.create(prompt=prompts, **params)
            usage = whole.usage
            assert [choice.index for choice in whole.choices] == list(range(6))
            together = {choice.index: choice.text for choice in whole.choices}
    assert together == separate
    assert len(set(separate.values())) > 3
    totals = [answer.usage for answer in single if answer.usage is not None]
    assert usage is not None
    assert usage.prompt_tokens == sum(usage_of_prompt.prompt_tokens for usage_of_prompt in totals)
    assert usage.completion_tokens == sum(usage_of_prompt.completion_tokens for usage_of_prompt in totals)


async def test_one_invalid_prompt_of_several_refuses_the_request(installation: Installation) -> None:
    async with client(installation, seconds_per_step=0.01) as (talking, server):
        engine = GenerationCounter(server)
        with pytest.raises(openai.BadRequestError) as caught:
            await talking.completions.create(model="tiny", prompt=[PROMPT, "x" * 3000], max_tokens=2000)
        assert caught.value.param == "prompt"
        await asyncio.wait_for(engine.until(begun=2, aborted=2), 10)


@pytest.mark.parametrize(
    ("param", "prompt"),
    [("prompt", []), ("prompt.1.0", [[1], ["a"]]), ("prompt.1", ["a", 3]), ("prompt.0", [-1]), ("prompt.0", [[]])],
)
async def test_an_invalid_prompt_is_refused_by_field(installation: Installation, param: str, prompt: Any) -> None:
    async with running_server(installation, working=False) as server:
        answer = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": prompt})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_top_k_of_minus_one_and_zero_keep_all_tokens(installation: Installation) -> None:
    params: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 4, "seed": 3}
    async with client(installation) as (talking, _):
        texts = [
            (await talking.completions.create(**params, extra_body={"top_k": top_k})).choices[0].text
            for top_k in (-1, 0)
        ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_disconnect_aborts_generation_within_a_second(
    installation: Installation, stream: bool, chat: bool
) -> None:
    path, more = ("/v1/chat/completions", {"messages": CHAT}) if chat else ("/v1/completions", {"prompt": PROMPT})
    body = {"model": "tiny", "max_tokens": 2000, "stream": stream, **more}
    async with running_server(installation, seconds_per_step=0.01) as server, server_on_socket(server) as url:
        engine = GenerationCounter(server)
        clients = [asyncio.ensure_future(_post(url + path, body, read=not stream)) for _ in range(20)]
        await asyncio.wait_for(engine.until(begun=20), 20)
        for one in clients:
            one.cancel()
        await asyncio.wait_for(engine.until(aborted=20), 1.0)
        assert engine.counts["finished"] == 0


async def _post(url: str, body: dict[str, Any], *, read: bool) -> None:
    async with httpx.AsyncClient(timeout=None) as http, http.stream("POST", url, json=body) as answer:
        if read:
            await answer.aread()
        async for _ in answer.aiter_bytes():
            pass


async def test_the_tokens_of_all_answers_count_against_the_limit(installation: Installation) -> None:
    async with running_server(installation, working=False, limits=LIMITS) as server:
        body = {"model": "tiny", "prompt": PROMPT, "max_tokens": LIMITS.max_tokens // 4, "n": 8}
        answer = await server.http.post("/v1/completions", json=body)
    assert answer.json()["error"]["code"] == "max_tokens_too_large"
