"""Authentication and authorization. Denies by default.

With API keys, a request needs a key whose scopes cover it: `read` for GET and HEAD, `submit` for everything else. A
server requires keys as soon as its key file has one, and always if it can be reached from outside this machine.
Without keys it accepts requests from this machine only, and rejects requests that a web page sends through a browser,
under another host name or from another origin.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from ampsweep.errors import AmpsweepError, Forbidden, Unauthenticated
from ampsweep.proxies import is_loopback
from api.auth.api_keys import KeyFile, KeyScope
from api.auth.principal import LOCAL, Principal, enter
from api.auth.rate_limit import RateLimiter
from api.errors import ours

ALWAYS_OPEN = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
"""Open to anybody only where a setting says so."""
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


class AuthPolicy:
    """Decides about requests. `exposed` says that others than this machine's users can reach the server.

    `open_paths` are answered to anybody.
    """

    def __init__(
        self, keys: KeyFile, *, exposed: bool, rate_limiter: RateLimiter, open_paths: frozenset[str] = ALWAYS_OPEN
    ) -> None:
        self._keys = keys
        self._exposed = exposed
        self._rate_limiter = rate_limiter
        self._open_paths = open_paths

    def authenticate(self, method: str, path: str, headers: Mapping[str, str]) -> Principal | None:
        """Return who asks, None on a path that is open to anybody.

        Raises Unauthenticated, Forbidden or RateLimited; DamagedFile where the keys cannot be read.
        """
        if path in self._open_paths:
            return None
        principal = self._with_key(headers) if self._exposed or self._keys.all() else _at_the_machine(headers)
        principal.need(KeyScope.READ if method in _LOOKING else KeyScope.SUBMIT)
        self._rate_limiter.acquire(principal.id)
        return principal

    def _with_key(self, headers: Mapping[str, str]) -> Principal:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("an API key is needed, as `Authorization: Bearer KEY`")
        key = self._keys.find(token.strip())
        if key is None:
            raise Unauthenticated("this API key is not known here, or it is revoked")
        return Principal.of(key)


class AuthMiddleware:
    """ASGI middleware that authenticates every request by an `AuthPolicy`."""

    def __init__(self, app: ASGIApp, *, policy: AuthPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in, and answer the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            principal = self._policy.authenticate(scope["method"], scope["path"], headers)
        except AmpsweepError as error:
            await ours(error)(scope, receive, send)
            return
        if principal is not None:
            enter(scope, principal)
        await self._app(scope, receive, send)


def _at_the_machine(headers: Mapping[str, str]) -> Principal:
    """Return the caller of a server without keys; Forbidden where a web page speaks through a browser."""
    host = headers.get("host", "")
    if not is_loopback(_without_port(host)):
        raise Forbidden(
            f"without API keys this server answers to localhost only, not to {host!r}; `ampsweep keys create` makes one"
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden("without API keys this server answers to no other web page; `ampsweep keys create` makes one")
    return LOCAL


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host
