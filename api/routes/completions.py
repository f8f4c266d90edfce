"""Text continued and chats answered, steered or not, as a whole or as a stream, in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.chat_answer import ChatAnswer
from api.chat_request import ChatRequest, parse_chat
from api.completion_answer import CompletionAnswer
from api.completion_request import CompletionRequest, parse_completion
from api.document import body_of
from api.examples import CHAT, COMPLETION
from api.generation import generated
from api.json_body import JsonBody
from api.openai_route import OpenAIRoute
from api.services import Served
from api.streams import one_stream

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {}, "text/event-stream": {}},
        "description": "Whole, or with `stream` in pieces.",
    }
}

router = APIRouter(tags=["completions"], dependencies=[one_stream], route_class=OpenAIRoute)


@router.post(
    "/completions", openapi_extra=body_of(CompletionRequest, COMPLETION), response_class=Response, responses=_ANSWERS
)
async def create_completion(served: Served, request: Request, body: JsonBody) -> Response:
    """Continue a prompt. With `stream: true` the pieces come as they are drawn, then `data: [DONE]`.

    A client that goes away ends its generation.
    """
    asked = parse_completion(body)
    calls = asked.to_calls(served.limits)
    return await generated(served, request, calls, CompletionAnswer(asked), stream=bool(asked.stream))


@router.post("/chat/completions", openapi_extra=body_of(ChatRequest, CHAT), response_class=Response, responses=_ANSWERS)
async def create_chat_completion(served: Served, request: Request, body: JsonBody) -> Response:
    """Answer a chat, written out by the model's chat template. With `stream: true` as deltas, then `data: [DONE]`.

    A client that goes away ends its generation.
    """
    asked = parse_chat(body)
    call = asked.to_call(served.limits)
    return await generated(served, request, [call], ChatAnswer(asked), stream=bool(asked.stream))
