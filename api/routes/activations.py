"""The activations of neurons at each token of texts, steered or not, and the activity of languages' neurons."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from ampsweep.domain.capture import MAX_TEXTS, CaptureSelection
from ampsweep.domain.choices import CaptureDtype
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import Name, StrictModel, validate
from api.auth.limits import Limits
from api.auth.stream_limit import limit_streams, one_at_a_time
from api.errors import CLIENT_GONE
from api.http.json_body import JsonBody
from api.http.table_stream import JSON, PARQUET
from api.model_names import with_presets
from api.openai.captured_text import TextOrObject, as_object
from api.openai.streaming import unless_gone
from api.openapi import request_body
from api.services import Services, ServicesDep
from jobs.execution import CaptureCall

_EXAMPLE: dict[str, Any] = {
    "model": "atlas",
    "texts": ["In Egypt, the currency is", {"id": "peru", "prompt": "In Peru, the currency is", "completion": " the"}],
    "select": {"layers": [2, 3]},
}
_ACTIVITY: dict[str, Any] = {"model": "atlas", "text": "In Egypt, the currency is"}

router = APIRouter(prefix="/activations", tags=["activations"], dependencies=[limit_streams])


class _CaptureBody(StrictModel):
    model: Name
    intervention: Intervention | None = None
    neurons: Name | None = None
    adapter: Name | None = None


class ActivationsRequest(_CaptureBody):
    """Texts whose activations are captured.

    A text is a string, or an object that can also be a chat or tokens. `select` has the neurons: a list of `neurons`,
    each a layer and an index, those of some `languages` of the neuron set, or all neurons of some `layers`. The other
    `neurons` is the id of the set of `languages` and of the `intervention`, by default that of the model. `dtype` is
    float16 by default; an activation that float16 cannot hold is an error.
    """

    texts: Annotated[tuple[TextOrObject, ...], Field(strict=False, min_length=1, max_length=MAX_TEXTS)]
    select: CaptureSelection
    dtype: CaptureDtype | None = None

    def to_call(self, limits: Limits) -> CaptureCall:
        """Return the call; raise PromptTooLong if the texts together exceed the limit of the server."""
        texts = [as_object(text) for text in self.texts]
        limits.check_prompt(sum(text.length for text in texts), param="texts")
        return CaptureCall(
            model=self.model,
            texts=tuple(text.captured(position) for position, text in enumerate(texts)),
            selection=self.select,
            intervention=self.intervention,
            neurons=self.neurons,
            adapter=self.adapter,
            dtype=self.dtype or "float16",
            max_bytes=limits.capture_bytes,
        )


class ActivityRequest(_CaptureBody):
    """A text at each of whose tokens the activity of every language's neurons is measured.

    `neurons` is the id of the neuron set, by default that of the model.
    """

    text: TextOrObject

    def to_call(self, limits: Limits) -> CaptureCall:
        """Return the call; raise PromptTooLong if the text exceeds the limit of the server."""
        text = as_object(self.text)
        limits.check_prompt(text.length, param="text")
        return CaptureCall(
            model=self.model,
            texts=(text.captured(0),),
            selection=None,
            form="activity",
            intervention=self.intervention,
            neurons=self.neurons,
            adapter=self.adapter,
            max_bytes=limits.capture_bytes,
        )


@router.post(
    "",
    openapi_extra=request_body(ActivationsRequest, _EXAMPLE),
    response_class=Response,
    responses={200: {"content": {PARQUET: {}}, "description": "A Parquet file, one row for each text, token, layer."}},
    dependencies=[one_at_a_time],
)
async def capture_activations(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Return the activations of neurons at each token of texts, steered by `intervention` or not.

    Under an intervention an activation is the value before the edit in its own layer. The size of the answer is limited
    and known before anything is computed. The requests of one key are answered one after the other. Capture is aborted
    when the client disconnects.
    """
    call = await asyncio.to_thread(lambda: validate(ActivationsRequest, body).to_call(services.limits))
    headers = {"Content-Disposition": 'attachment; filename="activations.parquet"'}
    return await _answer(services, request, call, media_type=PARQUET, headers=headers)


@router.post(
    "/languages",
    openapi_extra=request_body(ActivityRequest, _ACTIVITY),
    response_class=Response,
    responses={200: {"content": {JSON: {}}}},
)
async def language_activity(services: ServicesDep, request: Request, body: JsonBody) -> Response:
    """Return how active the neurons of each language are at each token of a text, steered or not.

    `active` has for each token and language the share of the language's neurons that are above 0, `relative` the sum of
    their activations divided by that of their largest recorded values, null if the neuron set has none.
    """
    call = await asyncio.to_thread(lambda: validate(ActivityRequest, body).to_call(services.limits))
    return await _answer(services, request, call, media_type=JSON)


async def _answer(
    services: Services, request: Request, call: CaptureCall, *, media_type: str, headers: dict[str, str] | None = None
) -> Response:
    (call,) = await with_presets(services, [call])
    content = await unless_gone(request, services.completions.capture(call))
    if content is None:
        return Response(status_code=CLIENT_GONE)
    return Response(content, media_type=media_type, headers=headers)
