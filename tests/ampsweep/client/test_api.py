"""What the calls make of the responses, on a session without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from ampsweep.client.api import Api


class StubSession:
    """A session whose lists have these items."""

    url = "http://127.0.0.1:8700"

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    async def pages(self, path: str, **params: str) -> AsyncGenerator[dict[str, Any]]:
        for item in self.items:
            yield item


def test_sets_that_are_not_finished_are_listed_on_request_only() -> None:
    sets = [{"id": f"ns_{status}", "status": status} for status in ("completed", "failed", "in_progress")]
    api = Api(cast("Any", StubSession(sets)))
    assert [each["id"] for each in asyncio.run(api.neuron_sets())] == ["ns_completed"]
    assert [each["id"] for each in asyncio.run(api.neuron_sets(unfinished=True))] == [each["id"] for each in sets]
