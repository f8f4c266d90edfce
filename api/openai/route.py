"""Route class that answers errors with the HTTP statuses of OpenAI's API, by which its clients choose exceptions.

An invalid field is 400 (`openai.BadRequestError`), an unknown model 404 (`openai.NotFoundError`). On all other routes
both are 422. The bodies of errors are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from ampsweep.errors import AmpsweepError, UnknownName
from api.errors import as_invalid_request, error_response


class OpenAIRoute(APIRoute):
    """A route of the OpenAI-compatible API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def handle_as_openai(request: Request) -> Response:
            try:
                return await handle(request)
            except AmpsweepError as error:
                return error_response(error, status=openai_status(error))
            except RequestValidationError as error:
                invalid_request = as_invalid_request(error)
                return error_response(invalid_request, status=openai_status(invalid_request))

        return handle_as_openai


def openai_status(error: AmpsweepError) -> int:
    """Return the status of an error in OpenAI's API."""
    if error.status != 422:
        return error.status
    return 404 if isinstance(error, UnknownName) and error.param == "model" else 400
