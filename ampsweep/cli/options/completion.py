"""Shell completion of arguments: sweep ids and model names of the server that the command would talk to.

Offers nothing if the server does not answer quickly, so that the shell does not hang.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from ampsweep.bundled import ATLAS
from ampsweep.errors import AmpsweepError

TIMEOUT_SECONDS = 1.0
MAX_SWEEPS = 50
"""The number of sweeps offered, newest first."""


def sweeps(ctx: Any, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the ids of sweeps, each with its status and name."""
    from ampsweep.client.clients import Client

    with suppress(AmpsweepError), Client(ctx.params.get("server"), timeout=TIMEOUT_SECONDS, retries=0) as client:
        for sweep in islice(client.sweeps(), MAX_SWEEPS):
            if sweep.id.startswith(incomplete):
                yield sweep.id, f"{sweep.status} {sweep.name}"


def models(ctx: Any, incomplete: str) -> Iterator[str]:
    """Yield the names of a server's models or, without a server, that of the bundled model."""
    from ampsweep.client.clients import Client

    names = [ATLAS]
    if server := ctx.params.get("server"):
        with suppress(AmpsweepError), Client(server, timeout=TIMEOUT_SECONDS, retries=0) as client:
            names = [model["id"] for model in client.models()]
    yield from (name for name in names if name.startswith(incomplete))
