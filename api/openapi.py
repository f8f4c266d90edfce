"""The OpenAPI document: what the routes say of themselves, and the bodies that are read as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.auth.authentication import ALWAYS_OPEN

_REF = "#/components/schemas/{model}"


def request_body(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a route adds to its description when it reads a `model` itself, as `example` is one."""
    content = {"schema": {"$ref": _REF.format(model=model.__name__)}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def file_responses(*forms: str) -> dict[int | str, dict[str, Any]]:
    """Return what a route adds to its description when it answers with a file, in several forms."""
    content: dict[str, Any] = {"content": {form: {} for form in forms}}
    return {
        200: content,
        206: {**content, "description": "The range that `Range` asks for, of Parquet."},
        304: {"description": "The client has it: `If-None-Match`."},
        416: {"description": "The file has no such range."},
    }


def describe(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Complete an application's document: the schemas and examples of `bodies`, the errors, how a key is shown."""
    routes_only = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = routes_only()
            _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
            parts = found.setdefault("components", {})
            parts["schemas"] = {**parts.get("schemas", {}), **schemas["$defs"], "Error": _ERROR}
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nothing here answers with
                parts["schemas"].pop(name, None)
            parts["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer", "description": _KEY}}
            for path, operations in found["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add to an operation what holds for all: who may call it, and the errors it may answer with."""
    if path not in ALWAYS_OPEN:
        operation["security"] = [{"apiKey": []}]
    for status, meaning in _ERRORS.items():
        written = {
            "description": meaning,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
        }
        known = operation["responses"].get(str(status))
        if known is None or status == 422:
            operation["responses"][str(status)] = written


_KEY = "A key made by `ampsweep keys create`. A server without keys answers to its own machine, without one."
_ERRORS = {
    400: "The request is not HTTP as it should be.",
    401: "No API key, or one that is not known or revoked.",
    403: "The key's scopes do not cover this, or it belongs to somebody else.",
    404: "There is no such thing.",
    406: "No form of the answer is one that `Accept` takes.",
    409: "The state does not allow it.",
    413: "The body is too large.",
    422: "A field is wrong; `param` names it.",
    429: "Too many requests or streams; `Retry-After` says when to come back.",
    500: "A fault of the server's.",
    503: "Not now; `Retry-After` says when to come back.",
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
                "param": {"type": ["string", "null"], "description": "The dotted path of the wrong field."},
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
