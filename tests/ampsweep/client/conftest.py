"""Both clients on a real server, and a sweep that has ended there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ampsweep import Client
from ampsweep.client.models import Sweep
from tests.ampsweep.client.both_clients import KINDS, opened
from tests.ampsweep.client.server_process import ServerProcess


@pytest.fixture(scope="module", params=KINDS)
def client(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Client]:
    with opened(request.param, server.url) as client:
        yield client


@pytest.fixture
def done(client: Client, spec: dict[str, Any]) -> Sweep:
    """A sweep that has ended."""
    return client.wait(client.submit(spec).id)
