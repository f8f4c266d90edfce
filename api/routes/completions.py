"""Completions and chats, steered or not, as one response or as a stream, in the schema of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth.stream_limit import limit_streams
from api.http.json_body import JsonBody
from api.model_names import with_presets
from api.openai.chats.formatter import ChatFormatter
from api.openai.chats.request import ChatRequest, parse_chat
from api.openai.completions.formatter import CompletionFormatter
from api.openai.completions.request import CompletionRequest, parse_completion
from api.openai.route import OpenAIRoute
from api.openai.streaming import generation_response
from api.openapi import request_body
from api.services import ServicesDep

GENERATED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {}, "text/event-stream": {}},
        "description": "One object or, with `stream: true`, Server-Sent Events.",
    }
}
"""The `responses` of a route that generates text."""
_COMPLETION: dict[str, Any] = {
    "model": "atlas",
    "prompt": "In Egypt, the currency is",
    "max_tokens": 12,
    "temperature": 0,
}
_CHAT: dict[str, Any] = {
    "model": "qwen",  # the bundled model has no chat template
    "messages": [{"role": "user", "content": "What is the currency of Egypt?"}],
    "max_completion_tokens": 12,
}

router = APIRouter(tags=["completions"], dependencies=[limit_streams], route_class=OpenAIRoute)


@router.post(
    "/completions",
    openapi_extra=request_body(CompletionRequest, _COMPLETION),
    response_class=Response,
    responses=GENERATED,
)
async def create_completion(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Continue one or several prompts, steered by `intervention`, or once by each of several `interventions`.

    With `stream: true` the text is sent as events while it is generated, followed by `data: [DONE]`. Generation is
    aborted when the client disconnects.
    """
    completion = parse_completion(body)
    calls = await with_presets(services, completion.to_calls(services.limits), completion.param_of)
    completion.check_calls(calls)
    formatter = CompletionFormatter(completion)
    return await generation_response(
        services, request, calls, formatter, stream=bool(completion.stream), param_of=completion.param_of
    )


@router.post(
    "/chat/completions", openapi_extra=request_body(ChatRequest, _CHAT), response_class=Response, responses=GENERATED
)
async def create_chat_completion(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Answer a chat, formatted by the chat template of the model, steered by `intervention` if there is one.

    With `stream: true` the answer is sent as deltas while it is generated, followed by `data: [DONE]`. Generation is
    aborted when the client disconnects.
    """
    chat = parse_chat(body)
    calls = await with_presets(services, [chat.to_call(services.limits)], chat.param_of)
    return await generation_response(
        services, request, calls, ChatFormatter(chat), stream=bool(chat.stream), param_of=chat.param_of
    )
