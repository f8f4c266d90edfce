"""The Python client of the REST interface: `Client` for threads, `AsyncClient` for event loops."""

from __future__ import annotations

from ampsweep.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
