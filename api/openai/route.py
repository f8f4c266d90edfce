"""Routes that answer errors with the statuses of OpenAI's API, on which its clients' exceptions depend.

A wrong field is 400 there (`openai.BadRequestError`), an unknown model 404 (`openai.NotFoundError`); elsewhere both are
422. The bodies are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from ampsweep.errors import AmpsweepError, UnknownName
from api.errors import invalid, ours


class OpenAIRoute(APIRoute):
    """A route of the OpenAI-compatible API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def handle_as_openai(request: Request) -> Response:
            try:
                return await handle(request)
            except AmpsweepError as error:
                return ours(error, status=_status(error))
            except RequestValidationError as error:
                refused = invalid(error)
                return ours(refused, status=_status(refused))

        return handle_as_openai


def _status(error: AmpsweepError) -> int:
    if error.status != 422:
        return error.status
    return 404 if isinstance(error, UnknownName) and error.param == "model" else 400
