"""Rejects query parameters that a route does not declare, like unknown keys of a body."""

from __future__ import annotations

from fastapi import Depends, Request

from ampsweep.errors import InvalidRequest


async def _known_query(request: Request) -> None:
    if not request.query_params:
        return
    paths = request.app.openapi()["paths"]  # made once; the application keeps it
    method = "get" if request.method == "HEAD" else request.method.lower()  # HEAD takes what GET takes
    operation = paths.get(request.scope["route"].path_format, {}).get(method, {})
    known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InvalidRequest(f"unknown query parameter {name!r}; known: {listed}", param=name)


known_query = Depends(_known_query)
"""Every route with this answers 422 to a query parameter that it does not declare."""
