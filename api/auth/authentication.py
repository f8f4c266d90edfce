"""Authentication and authorization. Denies by default.

With API keys, a request needs a key whose scopes cover it: `read` for GET and HEAD, `submit` for everything else. A
server requires keys as soon as its key file has one, and always if it can be reached from outside this machine.
Without keys it accepts requests from this machine only, and rejects requests that a web page sends through a browser,
under another host name or from another origin.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from ampsweep.errors import AmpsweepError, Forbidden, Unauthenticated, quoted
from ampsweep.proxies import is_loopback
from api.auth.api_keys import KeyFile, KeyScope
from api.auth.principal import LOCAL, Principal, bind
from api.auth.rate_limit import RateLimiter
from api.errors import error_response

ALWAYS_OPEN = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
"""Needs no key if the server is configured so."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthPolicy:
    """Decides which requests are accepted, and who sent them.

    Args:
        keys: The API keys of this server.
        exposed: Whether the server can be reached from other machines.
        rate_limiter: Limits the requests of each principal.
        open_paths: Paths that need no authentication.
    """

    def __init__(
        self, keys: KeyFile, *, exposed: bool, rate_limiter: RateLimiter, open_paths: frozenset[str] = ALWAYS_OPEN
    ) -> None:
        self._keys = keys
        self._exposed = exposed
        self._rate_limiter = rate_limiter
        self._open_paths = open_paths

    def authenticate(self, method: str, path: str, headers: Mapping[str, str]) -> Principal | None:
        """Return the principal of a request, or None for a path that needs no authentication.

        Raises:
            Unauthenticated: The request has no key, or one that is unknown or revoked.
            Forbidden: The key's scopes do not cover the request, or it came from another web page.
            RateLimited: The principal has sent too many requests.
            DamagedFile: The key file is damaged, or was deleted.
            Unavailable: The key file cannot be read now.
        """
        if path in self._open_paths:
            return None
        principal = self._with_key(headers) if self._exposed or self._keys.all() else _local_principal(headers)
        principal.need(KeyScope.READ if method in _SAFE_METHODS else KeyScope.SUBMIT)
        self._rate_limiter.acquire(principal.id)
        return principal

    def _with_key(self, headers: Mapping[str, str]) -> Principal:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("this server needs an API key; send it as `Authorization: Bearer KEY`")
        key = self._keys.find(token.strip())
        if key is None:
            raise Unauthenticated("the API key is unknown to this server or was revoked; ask its operator for a key")
        return Principal.of(key)


class AuthMiddleware:
    """ASGI middleware that authenticates every request by an `AuthPolicy`."""

    def __init__(self, app: ASGIApp, *, policy: AuthPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass accepted requests on and answer the others with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            principal = self._policy.authenticate(scope["method"], scope["path"], headers)
        except AmpsweepError as error:
            await error_response(error)(scope, receive, send)
            return
        if principal is not None:
            bind(scope, principal)
        await self._app(scope, receive, send)


def _local_principal(headers: Mapping[str, str]) -> Principal:
    """Return the principal of a server without keys; raise Forbidden for requests of web pages from other hosts."""
    host = headers.get("host", "")
    if not is_loopback(_without_port(host)):
        raise Forbidden(
            f"without API keys this server accepts the Host header localhost only, not {quoted(host)}; "
            "create a key with `ampsweep keys create`"
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden(
            "without API keys this server accepts no requests from web pages of other origins such as "
            f"{quoted(origin)}; create a key with `ampsweep keys create`"
        )
    return LOCAL


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host
