"""The requests in the files of batches: reads their lines, and answers them as their endpoints do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ampsweep.domain.validation import StrictModel, validate
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest, Unavailable
from api.auth.limits import Limits
from api.errors import error_body
from api.http.json_body import parse_json
from api.model_names import with_presets
from api.openai.chats.formatter import ChatFormatter
from api.openai.chats.request import ChatRequest, parse_chat
from api.openai.completions.formatter import CompletionFormatter
from api.openai.completions.request import CompletionRequest, parse_completion
from api.openai.generation_request import GenerationRequest
from api.openai.responses.formatter import ResponsesFormatter
from api.openai.responses.request import ResponseRequest, parse_response_request
from api.openai.route import openai_status
from api.openai.streaming import Formatter, generate
from jobs.batches.rows import Row, RowResult
from jobs.execution import CompletionCall, Completions
from jobs.planning.catalog import Catalog
from jobs.presets import Presets

log = logging.getLogger(__name__)

_UNHANDLED = "unhandled exception in request %d of a batch, custom_id %r"
_INTERNAL = "internal error; the server's log describes it under the custom_id"

Endpoint = Literal["/v1/completions", "/v1/chat/completions", "/v1/responses"]
"""The endpoints that requests of batches can be sent to."""


class BatchLine(StrictModel):
    """A line of a file of requests. `custom_id` is repeated in the line of the answer."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class OpenAIRows:
    """Implements `jobs.batches.rows.RowAnswers`.

    Attributes:
        completions: Generates the answers.
        catalog: The models that requests can name.
        presets: The named interventions.
        limits: The limits of a request.
    """

    completions: Completions
    catalog: Catalog
    presets: Presets
    limits: Limits

    def parse(self, line: bytes, *, number: int, endpoint: str) -> Row:
        """Return the request of a line; see `RowAnswers.parse`."""
        raw: object = None
        try:
            if len(line) > self.limits.body_bytes:
                raise InvalidRequest(f"the line is larger than {self.limits.body_bytes} bytes, the limit of a request")
            raw = parse_json(line)
            request = validate(BatchLine, raw)
            if request.url != endpoint:
                message = f"the url {request.url} is not the endpoint {endpoint} of the batch; put it into another file"
                raise InvalidRequest(message, param="url")
            if request.body.get("stream"):
                raise InvalidRequest("streams are not supported in a batch; omit stream", param="body.stream")
        except AmpsweepError as error:
            return Row(number=number, custom_id=_custom_id(raw), endpoint=endpoint, error=_alone(error))
        row = Row(number=number, custom_id=request.custom_id, endpoint=endpoint)
        try:
            parsed = _ENDPOINTS[endpoint].parse(request.body)
            _ENDPOINTS[endpoint].prepare(parsed, self.limits)
        except AmpsweepError as error:
            return replace(row, result=self.failure(error))
        except Exception:
            log.exception(_UNHANDLED, number, row.custom_id)
            return replace(row, result=self.failure(AmpsweepError(_INTERNAL)))
        return replace(row, request=parsed)

    async def answer(self, row: Row) -> RowResult:
        """Answer a request with the priority of sweeps; see `RowAnswers.answer`."""
        try:
            request = row.request
            calls, formatter = _ENDPOINTS[row.endpoint].prepare(request, self.limits)
            calls = [replace(call, background=True) for call in await with_presets(self, calls, request.param_of)]
            request.check_calls(calls)
            chunks = await generate(self.completions, calls, request.param_of)
            return RowResult(status=200, body=formatter.response(chunks))
        except (Unavailable, EngineFailed, OSError):
            raise
        except AmpsweepError as error:
            return self.failure(error)
        except Exception:
            log.exception(_UNHANDLED, row.number, row.custom_id)
            return self.failure(AmpsweepError(_INTERNAL))

    def failure(self, error: AmpsweepError) -> RowResult:
        """Return the result of a request that failed with an error."""
        return RowResult(status=openai_status(error), body=error_body(error))


def _alone(error: AmpsweepError) -> AmpsweepError:
    """Return an error without what it was raised from and where, which refers to everything on the line."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def _custom_id(raw: object) -> str | None:
    """Return the `custom_id` of a malformed line, if it has one."""
    custom_id = raw.get("custom_id") if isinstance(raw, Mapping) else None
    return custom_id[:512] if isinstance(custom_id, str) else None


@dataclass(frozen=True)
class _Endpoint:
    """How the requests to an endpoint are read: the body, and then the calls and what formats their answers."""

    parse: Callable[[object], GenerationRequest]
    prepare: Callable[[Any, Limits], tuple[list[CompletionCall], Formatter]]


def _completion(request: CompletionRequest, limits: Limits) -> tuple[list[CompletionCall], Formatter]:
    return request.to_calls(limits), CompletionFormatter(request)


def _chat(request: ChatRequest, limits: Limits) -> tuple[list[CompletionCall], Formatter]:
    return [request.to_call(limits)], ChatFormatter(request)


def _response(request: ResponseRequest, limits: Limits) -> tuple[list[CompletionCall], Formatter]:
    call = request.to_call(limits)
    return [call], ResponsesFormatter(request, call)


_ENDPOINTS: Mapping[str, _Endpoint] = {
    "/v1/completions": _Endpoint(parse_completion, _completion),
    "/v1/chat/completions": _Endpoint(parse_chat, _chat),
    "/v1/responses": _Endpoint(parse_response_request, _response),
}
