"""Text continued and chats answered, steered or not, as a whole or as a stream, in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth.stream_limit import limit_streams
from api.http.json_body import JsonBody
from api.openai.requests import ChatRequest, CompletionRequest, parse_chat, parse_completion
from api.openai.responses import ChatFormatter, CompletionFormatter
from api.openai.route import OpenAIRoute
from api.openai.streaming import generated
from api.openapi import request_body
from api.services import ServicesDep

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {}, "text/event-stream": {}},
        "description": "Whole, or with `stream` in pieces.",
    }
}
_COMPLETION: dict[str, Any] = {
    "model": "atlas",
    "prompt": "In Egypt, the currency is",
    "max_tokens": 12,
    "temperature": 0,
}
_CHAT: dict[str, Any] = {
    "model": "atlas",
    "messages": [{"role": "user", "content": "What is the currency of Egypt?"}],
    "max_completion_tokens": 12,
}

router = APIRouter(tags=["completions"], dependencies=[limit_streams], route_class=OpenAIRoute)


@router.post(
    "/completions",
    openapi_extra=request_body(CompletionRequest, _COMPLETION),
    response_class=Response,
    responses=_ANSWERS,
)
async def create_completion(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Continue a prompt. With `stream: true` the pieces come as they are drawn, then `data: [DONE]`.

    A client that goes away ends its generation.
    """
    asked = parse_completion(body)
    calls = asked.to_calls(services.limits)
    return await generated(services, request, calls, CompletionFormatter(asked), stream=bool(asked.stream))


@router.post(
    "/chat/completions", openapi_extra=request_body(ChatRequest, _CHAT), response_class=Response, responses=_ANSWERS
)
async def create_chat_completion(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Answer a chat, written out by the model's chat template. With `stream: true` as deltas, then `data: [DONE]`.

    A client that goes away ends its generation.
    """
    asked = parse_chat(body)
    call = asked.to_call(services.limits)
    return await generated(services, request, [call], ChatFormatter(asked), stream=bool(asked.stream))
