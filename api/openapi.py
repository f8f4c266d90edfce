"""Completes the OpenAPI document with what FastAPI does not derive from routes: bodies, errors, authentication.

The routes read their bodies as plain JSON and validate them themselves, so FastAPI does not know their schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.auth.authentication import ALWAYS_OPEN

_REF = "#/components/schemas/{model}"


def request_body(
    model: type[BaseModel], example: Mapping[str, Any], media_types: Sequence[str] = ("application/json",)
) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body is a `model`, with an example of it."""
    content = {"schema": {"$ref": _REF.format(model=model.__name__)}, "example": example}
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, content)}}


def file_responses(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with a file in one of several media types."""
    content: dict[str, Any] = {"content": {media_type: {} for media_type in media_types}}
    return {
        200: content,
        206: {**content, "description": "The range of the Parquet file that `Range` asks for."},
        304: {"description": "The file matches `If-None-Match`."},
        416: {"description": "The requested range lies outside the file."},
    }


def describe(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Complete an application's OpenAPI document: schemas of `bodies`, error responses and the API key scheme."""
    generate = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            generated = generate()
            _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
            components = generated.setdefault("components", {})
            components["schemas"] = {**components.get("schemas", {}), **schemas["$defs"], "Error": _ERROR}
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which no route returns
                components["schemas"].pop(name, None)
            components["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer", "description": _KEY}}
            for path, operations in generated["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add to an operation what all have in common: the API key and the error responses."""
    if path not in ALWAYS_OPEN:
        operation["security"] = [{"apiKey": []}]
    for status, description in _ERRORS.items():
        if str(status) not in operation["responses"] or status == 422:
            operation["responses"][str(status)] = {
                "description": description,
                "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
            }


_KEY = "A key created by `ampsweep keys create`. A server without keys accepts requests from its own machine only."
_ERRORS = {
    400: "The request is malformed.",
    401: "The API key is missing, unknown or revoked.",
    403: "The key's scopes do not allow the request, or the resource belongs to another key.",
    404: "The resource does not exist.",
    406: "`Accept` allows no media type of the response.",
    409: "The state of the resource does not allow the request.",
    413: "The body is too large.",
    422: "A field is invalid; `param` names it.",
    429: "Too many requests or streams; `Retry-After` has the seconds to wait.",
    500: "An internal error of the server.",
    503: "Temporarily unavailable; `Retry-After` has the seconds to wait.",
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string", "enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"], "description": "The dotted path of the invalid field."},
                "code": {"type": "string"},
            },
        }
    },
    "example": {
        "error": {
            "message": "unknown model 'altas'; known: atlas",
            "type": "invalid_request_error",
            "param": "model",
            "code": "unknown_name",
        }
    },
}
