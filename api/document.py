"""The OpenAPI document: what the routes say of themselves, and the bodies that are read as plain JSON."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a route adds to its description when it reads a `model` itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answered_as(*forms: str) -> dict[int | str, dict[str, Any]]:
    """Return what a route adds to its description when it answers in several forms."""
    return {200: {"content": {form: {} for form in forms}}}


def describe(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Add the schemas of `bodies` to an application's document."""
    routes_only = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = routes_only()
            _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
            found.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
