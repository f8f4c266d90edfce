"""What the shell offers for an argument: the sweeps and the models of the server that the command would ask.

A shell that waits is worse than one that knows nothing: without a quick answer nothing is offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from ampsweep.bundled import ATLAS
from ampsweep.client.clients import Client
from ampsweep.errors import AmpsweepError

SECONDS = 1.0
MOST = 50
"""How many sweeps are offered, the newest."""


def sweeps(ctx: Any, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield ids of sweeps, each with its status and name."""
    with suppress(AmpsweepError), Client(ctx.params.get("server"), timeout=SECONDS, retries=0) as client:
        for sweep in islice(client.sweeps(), MOST):
            if sweep.id.startswith(incomplete):
                yield sweep.id, f"{sweep.status} {sweep.name}"


def models(ctx: Any, incomplete: str) -> Iterator[str]:
    """Yield the names of models: of the server that is asked, else of the bundled one."""
    names = [ATLAS]
    if server := ctx.params.get("server"):
        with suppress(AmpsweepError), Client(server, timeout=SECONDS, retries=0) as client:
            names = [model["id"] for model in client.models()]
    yield from (name for name in names if name.startswith(incomplete))
