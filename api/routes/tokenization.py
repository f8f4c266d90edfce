"""Converts prompts to tokens and tokens to text with a model's tokenizer, in the schema of vLLM's server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ampsweep.domain.validation import validate
from ampsweep.errors import InvalidRequest
from api.http.json_body import JsonBody
from api.model_names import model_of
from api.openai.route import OpenAIRoute
from api.openai.tokenization import DetokenizeRequest, TokenizeRequest
from api.openapi import request_body
from api.services import Services, ServicesDep

_PROMPT: dict[str, Any] = {"model": "atlas", "prompt": "In Egypt, the currency is", "return_token_strs": True}
_TOKENS: dict[str, Any] = {"model": "atlas", "tokens": [1, 2, 3]}

router = APIRouter(tags=["tokens"], route_class=OpenAIRoute)


@router.post("/tokenize", openapi_extra=request_body(TokenizeRequest, _PROMPT))
async def tokenize(services: ServicesDep, body: JsonBody) -> dict[str, Any]:
    """Return the tokens of a text or a chat, their number, and the context length of the model."""
    request = validate(TokenizeRequest, body)
    model = await _model(services, request.model)
    prompt = await services.completions.tokenize(request.to_call(model, services.limits))
    return {
        "count": len(prompt.ids),
        "max_model_len": prompt.max_model_len,
        "tokens": list(prompt.ids),
        "token_strs": list(prompt.token_strs) if request.return_token_strs else None,
    }


@router.post("/detokenize", openapi_extra=request_body(DetokenizeRequest, _TOKENS))
async def detokenize(services: ServicesDep, body: JsonBody) -> dict[str, str]:
    """Return the text of tokens, special ones included."""
    request = validate(DetokenizeRequest, body)
    model = await _model(services, request.model)
    prompt = await services.completions.tokenize(request.to_call(model, services.limits))
    return {"prompt": prompt.text}


async def _model(services: Services, name: str | None) -> str:
    """Return the model that a name stands for or, without a name, the only model of the server."""
    if name is not None:
        return await model_of(services, name)
    models = sorted(services.catalog.models)
    if len(models) != 1:
        raise InvalidRequest(f"model is required; name one of: {', '.join(models)}", param="model")
    return models[0]
