"""A small completion, and the parts of its answers."""

from __future__ import annotations

from typing import Any

from tests.api.running_server import Server

REQUEST: dict[str, Any] = {"model": "tiny", "prompt": "The capital of France is", "max_tokens": 5, "temperature": 0}
SCALE = {"languages": ["fr"], "op": "scale", "factor": 2.0}


async def complete(server: Server, **changes: Any) -> dict[str, Any]:
    """Return the answer to REQUEST with some fields changed."""
    answer = await server.http.post("/v1/completions", json={**REQUEST, **changes})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def pieces(text: str) -> list[str]:
    """Return the data of the events of a stream."""
    return [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
