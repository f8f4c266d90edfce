from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk, Span
from ampsweep.domain.generation.prompt import PromptOptions
from ampsweep.errors import EngineFailed, InvalidRequest, NotFound, UnknownName
from api.auth.limits import Limits
from api.openai.batch_rows import OpenAIRows
from jobs.execution import CompletionCall
from jobs.planning.catalog import Catalog
from jobs.presets import Presets
from jobs.storage.local import LocalStorage

pytestmark = pytest.mark.anyio

LINE: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/completions",
    "body": {"model": "tiny", "prompt": "x", "max_tokens": 3},
}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}


class StubCompletions:
    """Answers each call with one chunk, or raises an error."""

    def __init__(self, error: Exception | None = None, *, steered_spans: tuple[Span, ...] | None = None) -> None:
        self.error = error
        self.steered_spans = steered_spans
        self.calls: list[CompletionCall] = []

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        yield Chunk(
            text="yes",
            token_ids=(1,),
            token_texts=("yes",),
            text_offsets=(0,),
            logprobs=(0.0,),
            top_logprobs=((),),
            prompt_tokens=1,
            finish_reason="stop",
            steered_spans=self.steered_spans,
        )


def rows(folder: Path, completions: StubCompletions | None = None, *, limits: Limits | None = None) -> OpenAIRows:
    return OpenAIRows(
        completions=completions or StubCompletions(),
        catalog=Catalog(models={"tiny": folder}, corpora={}, atlas=folder),
        presets=Presets(LocalStorage(folder / "presets")),
        limits=limits or Limits(),
    )


def parsed(folder: Path, line: Any, endpoint: str = "/v1/completions", *, limits: Limits | None = None) -> Any:
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    return rows(folder, limits=limits).parse(raw, number=7, endpoint=endpoint)


def test_a_valid_line_becomes_a_row(tmp_path: Path) -> None:
    row = parsed(tmp_path, LINE)
    assert (row.number, row.custom_id, row.endpoint, row.error) == (7, "a", "/v1/completions", None)
    assert (row.request.model, row.request.prompt, row.request.max_tokens) == ("tiny", "x", 3)
    assert row.result is None


@pytest.mark.parametrize(
    ("line", "param", "message"),
    [
        (b"{", None, "not valid JSON"),
        (b"[1]", None, "must be an object"),
        ({**LINE, "custom_id": ""}, "custom_id", "at least 1"),
        ({key: LINE[key] for key in ("method", "url", "body")}, "custom_id", "custom_id is required"),
        ({**LINE, "method": "GET"}, "method", "'POST'"),
        ({**LINE, "url": "/v1/embeddings"}, "url", "'/v1/completions'"),
        ({**LINE, "url": "/v1/responses"}, "url", "is not the endpoint /v1/completions of the batch"),
        ({**LINE, "body": {**LINE["body"], "stream": True}}, "body.stream", "omit stream"),
        ({**LINE, "priority": 1}, "priority", "unknown key"),
        (b'{"custom_id": "a", "custom_id": "b"}', "custom_id", "occurs twice"),
    ],
)
def test_a_malformed_line_says_why(tmp_path: Path, line: Any, param: str | None, message: str) -> None:
    row = parsed(tmp_path, line)
    assert row.error is not None
    assert message in row.error.message
    assert row.error.param == param
    assert row.error.__cause__ is row.error.__context__ is row.error.__traceback__ is row.request is None, "kept"
    assert row.custom_id == ("a" if isinstance(line, dict) and line.get("custom_id") == "a" else row.custom_id)


def test_a_line_that_is_larger_than_a_request_is_not_read(tmp_path: Path) -> None:
    row = parsed(tmp_path, LINE, limits=Limits(body_bytes=20))
    assert row.error is not None
    assert "larger than 20 bytes" in row.error.message


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", LINE["body"], "text_completion"),
        ("/v1/chat/completions", CHAT, "chat.completion"),
        ("/v1/responses", {"model": "tiny", "input": "x"}, "response"),
    ],
)
async def test_a_request_is_answered_as_its_endpoint_answers_it_with_the_priority_of_sweeps(
    tmp_path: Path, endpoint: str, body: dict[str, Any], kind: str
) -> None:
    completions = StubCompletions()
    row = parsed(tmp_path, {**LINE, "url": endpoint, "body": body}, endpoint)
    result = await rows(tmp_path, completions).answer(row)
    assert (result.status, result.body["object"], result.body["model"]) == (200, kind, "tiny")
    assert [(call.background, call.stream) for call in completions.calls] == [(True, False)]
    steered = StubCompletions(steered_spans=((0, 1),))
    response = (await rows(tmp_path, steered).answer(row)).body
    (answer,) = response.get("choices", [response])
    assert answer["steered_spans"] == [[0, 1]]


async def test_a_chat_of_a_batch_has_the_options_of_its_prompt(tmp_path: Path) -> None:
    completions = StubCompletions()
    begun = [*CHAT["messages"], {"role": "assistant", "content": "Well,"}]
    fields = {"continue_final_message": True, "chat_template_kwargs": {"enable_thinking": False}, "priority": 3}
    body = {**CHAT, "messages": begun, **fields}
    row = parsed(tmp_path, {**LINE, "url": "/v1/chat/completions", "body": body}, "/v1/chat/completions")
    assert (await rows(tmp_path, completions).answer(row)).status == 200
    (call,) = completions.calls
    assert call.options == PromptOptions(continue_final_message=True, chat_template_kwargs={"enable_thinking": False})
    assert (call.priority, call.background) == (3, True)


async def test_an_error_about_an_intervention_names_the_field_that_has_it(tmp_path: Path) -> None:
    steering = {"languages": ["fr"], "op": "scale", "factor": 2}
    for fields, param in (
        ({"intervention": steering}, "intervention.layers"),
        ({"interventions": [None, steering]}, "interventions.0.layers"),
        ({"vllm_xargs": {"ampsweep": steering}}, "vllm_xargs.ampsweep.layers"),
    ):
        failing = StubCompletions(InvalidRequest("no such layer", param="intervention.layers"))
        row = parsed(tmp_path, {**LINE, "body": {**LINE["body"], **fields}})
        result = await rows(tmp_path, failing).answer(row)
        assert (result.status, result.body["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"model": "tiny"}, "prompt"), ({"prompt": "x" * 30}, "prompt"), ({"max_tokens": 99}, "max_tokens")],
)
def test_a_request_that_no_engine_could_answer_is_not_kept_in_memory(
    tmp_path: Path, body: dict[str, Any], param: str
) -> None:
    limits = Limits(prompt_chars=20, max_tokens=50)
    body = body if "model" in body else {**LINE["body"], **body}
    row = parsed(tmp_path, {**LINE, "body": body}, limits=limits)
    assert (row.custom_id, row.error, row.request) == ("a", None, None)
    assert (row.result.status, row.result.body["error"]["param"]) == (400, param)


async def test_an_error_of_the_request_is_its_result(tmp_path: Path) -> None:
    drifting = {"languages": ["fr"], "op": "scale", "factor": 2, "when": "drift"}
    body = {**LINE["body"], "max_tokens": 0, "echo": True, "intervention": drifting}
    silent = await rows(tmp_path).answer(parsed(tmp_path, {**LINE, "body": body}))
    assert (silent.status, silent.body["error"]["param"]) == (400, "intervention.when")
    unknown = StubCompletions(UnknownName("model", "x", ["tiny"], param="model"))
    assert (await rows(tmp_path, unknown).answer(parsed(tmp_path, LINE))).status == 404
    assert (await rows(tmp_path, StubCompletions(NotFound("no such set"))).answer(parsed(tmp_path, LINE))).status == 404
    with pytest.raises(EngineFailed):
        await rows(tmp_path, StubCompletions(EngineFailed("died"))).answer(parsed(tmp_path, LINE))


async def test_a_bug_that_one_request_meets_fails_it_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = await rows(tmp_path, StubCompletions(TypeError("a bug"))).answer(parsed(tmp_path, LINE))
    assert (result.status, result.body["error"]["code"]) == (500, "internal_error")
    assert "custom_id 'a'" in caplog.text
    with pytest.raises(OSError, match="disk"):  # the whole batch waits
        await rows(tmp_path, StubCompletions(OSError("disk"))).answer(parsed(tmp_path, LINE))
