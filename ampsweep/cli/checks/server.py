"""A server from outside: whether it answers, and whether the key opens it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpx

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from ampsweep.client.clients import API_KEY, Client
from ampsweep.errors import AmpsweepError, Unavailable
from ampsweep.proxies import is_loopback, proxy_of

SECONDS = 10.0


def server(url: str) -> list[Finding]:
    """Ask a server for its models, through the proxy of the environment where there is one."""
    proxy = proxy_of(url)
    through = [] if proxy is None else [note("proxy", f"{url} is asked through {proxy}", "NO_PROXY exempts a host")]
    return [*through, *_server(url)]


def _server(url: str) -> list[Finding]:
    with Client(url, timeout=SECONDS, retries=0) as client:
        try:
            names = ", ".join(str(model["id"]) for model in client.models())
        except Unavailable as error:
            return [bad("server", error.message, "start it with `ampsweep serve`, or fix --server")]
        except AmpsweepError as error:
            if error.status in (401, 403):
                given = f"the key in {API_KEY} does not open it" if os.environ.get(API_KEY) else "it asks for a key"
                remedy = f"set {API_KEY} to one that `ampsweep keys create` made on the server"
                return [ok("server", f"{url} answers"), bad("key", f"{given}: {error.message}", remedy)]
            return [bad("server", f"{url}: {error.message}", "look into the server's log")]
    return [ok("server", f"{url} answers; models: {names}"), *_engines(url)]


def _engines(url: str) -> list[Finding]:
    """Tell how each engine is; one that could not be started is for whoever runs the server."""
    try:
        trust_env = not is_loopback(urlsplit(url).hostname or "")
        told = httpx.get(f"{url.rstrip('/')}/readyz", timeout=SECONDS, trust_env=trust_env).json()["engines"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return [note("engines", f"the server does not tell of them: {error}", f"see {url}/readyz")]
    return [_engine(f"engine of {each['model']}", each["state"], each["error"]) for each in told]


def _engine(name: str, state: str, error: str | None) -> Finding:
    if state == "ready":
        return ok(name, state)
    if state == "failed":
        return bad(name, f"failed: {error}", "fix what the error names, then `ampsweep engines retry` with the model")
    why = f" after it failed: {error}" if error else ""
    return note(name, f"{state}{why}; sweeps can be sent, and wait for it")
