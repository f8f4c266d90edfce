"""Checks of a server from a client: whether it answers, accepts the API key, and has its database and ready engines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from ampsweep.client.clients import Client
from ampsweep.client.environment import API_KEY
from ampsweep.client.http.errors import check_url
from ampsweep.errors import AmpsweepError, InvalidRequest, Unavailable
from ampsweep.proxies import is_loopback, proxy_of
from ampsweep.telemetry.start_phase import start_text

TIMEOUT_SECONDS = 10.0


def server(url: str) -> list[Finding]:
    """Check a server, through the proxy of the environment if there is one."""
    try:
        check_url(url)
    except InvalidRequest as error:
        return [bad("server", error.message, "fix --server")]
    proxy = proxy_of(url)
    findings = (
        [] if proxy is None else [note("proxy", f"requests to {url} go through {proxy}", "NO_PROXY exempts a host")]
    )
    return [*findings, *_server(url)]


def _server(url: str) -> list[Finding]:
    with Client(url, timeout=TIMEOUT_SECONDS, retries=0) as client:
        try:
            names = ", ".join(str(model["id"]) for model in client.models())
        except Unavailable as error:
            return [bad("server", error.message, "start it with `ampsweep serve`, or fix --server")]
        except AmpsweepError as error:
            if error.status in (401, 403):
                reason = (
                    f"the server rejects the key in {API_KEY}"
                    if os.environ.get(API_KEY)
                    else "the server needs an API key"
                )
                remedy = f"set {API_KEY} to a key that `ampsweep keys create` created on the server"
                return [ok("server", f"{url} answers"), bad("key", f"{reason}: {error.message}", remedy)]
            return [bad("server", f"{url}: {error.message}", "read the log of the server")]
    return [ok("server", f"{url} answers; models: {names}"), *_readiness(url)]


def _readiness(url: str) -> list[Finding]:
    """Report a database that does not answer, and the state of each engine, from `/readyz`."""
    try:
        trust_env = not is_loopback(urlsplit(url).hostname or "")
        state = httpx.get(f"{url.rstrip('/')}/readyz", timeout=TIMEOUT_SECONDS, trust_env=trust_env).json()
        engines = [_engine(f"engine of {engine['model']}", engine) for engine in state["engines"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return [note("engines", f"the server does not report their states: {error}", f"see {url}/readyz")]
    if state.get("database") == "unavailable":
        remedy = "read the log of the server; it continues by itself once the database answers"
        return [bad("database", "the server cannot reach its database; sweeps cannot be submitted", remedy), *engines]
    return engines


def _engine(name: str, engine: Mapping[str, Any]) -> Finding:
    state, error = engine["state"], engine["error"]
    if state == "ready":
        return ok(name, state)
    if state == "failed":
        return bad(name, f"failed: {error}", "fix what the error names, then `ampsweep engines retry` with the model")
    cause = f" after a failure: {error}" if error else ""
    phase = f" ({start_text(engine['phase'], engine['start_seconds'])})" if engine.get("phase") else ""
    return note(name, f"{state}{phase}{cause}; submitted sweeps wait until it is ready")
