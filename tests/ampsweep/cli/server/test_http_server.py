from __future__ import annotations

import httpx
from fastapi import FastAPI

from ampsweep.cli.server.http_server import HttpServer


def test_idle_connections_are_closed_by_clients_and_load_balancers_first() -> None:
    kept = HttpServer(FastAPI()).config.timeout_keep_alive
    expiry = httpx.Limits().keepalive_expiry
    assert expiry is not None
    assert kept > max(expiry, 60)
