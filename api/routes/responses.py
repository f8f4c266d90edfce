"""OpenAI's Responses API for text, steered or not, as one response or as a stream. Responses are not stored."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth.stream_limit import limit_streams
from api.http.json_body import JsonBody
from api.model_names import with_presets
from api.openai.responses.formatter import ResponsesFormatter
from api.openai.responses.request import ResponseRequest, parse_response_request
from api.openai.route import OpenAIRoute
from api.openai.streaming import generation_response
from api.openapi import request_body
from api.routes.completions import GENERATED
from api.services import ServicesDep

_EXAMPLE: dict[str, Any] = {
    "model": "qwen",  # the bundled model has no chat template
    "input": "What is the currency of Egypt?",
    "max_output_tokens": 12,
}

router = APIRouter(tags=["completions"], dependencies=[limit_streams], route_class=OpenAIRoute)


@router.post(
    "/responses",
    openapi_extra=request_body(ResponseRequest, _EXAMPLE),
    response_class=Response,
    responses=GENERATED,
)
async def create_response(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Answer a text or a list of messages, steered by `intervention` if there is one.

    The input is formatted by the chat template of the model. With `stream: true` the answer is sent as the events that
    OpenAI documents, from `response.created` to `response.completed` or `response.incomplete`. Generation is aborted
    when the client disconnects.
    """
    parsed = parse_response_request(body)
    (call,) = await with_presets(services, [parsed.to_call(services.limits)], parsed.param_of)
    formatter = ResponsesFormatter(parsed, call)
    return await generation_response(
        services, request, [call], formatter, stream=bool(parsed.stream), param_of=parsed.param_of
    )
