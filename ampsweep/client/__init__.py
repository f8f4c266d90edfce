"""Python clients of the REST API: `Client`, and `AsyncClient` for code in an event loop."""

from __future__ import annotations

from ampsweep.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
