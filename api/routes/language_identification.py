"""Identifies the language of texts, as the page does for each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from ampsweep.domain.validation import StrictModel, validate
from api.http.json_body import JsonBody
from api.openapi import request_body
from api.services import ServicesDep
from jobs.language_control.identifiers import DEFAULT, open_identifier

_EXAMPLE: dict[str, Any] = {"texts": ["La monnaie de l'Égypte est la livre."]}

router = APIRouter(prefix="/languages", tags=["offers"])


class IdentifyRequest(StrictModel):
    """Texts whose languages are identified."""

    texts: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=256)]


@router.post("/identify", openapi_extra=request_body(IdentifyRequest, _EXAMPLE))
async def identify_languages(services: ServicesDep, body: JsonBody) -> dict[str, Any]:
    """Return the language of each text, and py3langid's `confidence`; null for a text without letters."""
    request = validate(IdentifyRequest, body)
    services.limits.check_prompt(sum(map(len, request.texts)), param="texts")
    return {"object": "list", "data": await asyncio.to_thread(_identified, request.texts)}


def _identified(texts: Sequence[str]) -> list[dict[str, Any]]:
    identifier = open_identifier(DEFAULT)
    identifications = map(identifier.identify, texts)
    return [{"language": each.language, "confidence": each.confidence} for each in identifications]
