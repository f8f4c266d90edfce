"""Ampsweep: amplify the language-specific neurons of a multilingual LLM, at scale.

`from ampsweep import Client, AsyncClient` gives the clients of a server; `ampsweep --help` lists the commands. Does not
import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampsweep.version import __version__

if TYPE_CHECKING:
    from ampsweep.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    """Import the clients on first use, because jobs and engine import this package and need no HTTP client."""
    if name in ("AsyncClient", "Client"):
        from ampsweep.client import clients

        return getattr(clients, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
