"""A query parameter that a route does not know is refused, as an unknown key of a body is, instead of passed over."""

from __future__ import annotations

from fastapi import Depends, Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from ampsweep.errors import InvalidRequest


async def _known_query(request: Request) -> None:
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [field.alias for field in get_flat_dependant(route.dependant).query_params]
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InvalidRequest(f"unknown query parameter {name!r}; known: {listed}", param=name)


known_query = Depends(_known_query)
"""Every route with this answers 422 to a query parameter that it does not declare."""
