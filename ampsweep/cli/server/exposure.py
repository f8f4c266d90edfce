"""Authentication and limits of a server, from its settings. Rejects settings that would expose it unprotected."""

from __future__ import annotations

from ampsweep.cli.server.settings import Settings
from ampsweep.errors import InvalidRequest
from ampsweep.proxies import is_loopback
from api.auth.api_keys import KeyFile
from api.auth.authentication import ALWAYS_OPEN, METRICS, AuthPolicy
from api.auth.limits import Limits
from api.auth.rate_limit import RateLimiter
from api.routes.webui import PAGE_PATHS


def auth_policy(settings: Settings) -> AuthPolicy:
    """Return the authentication policy.

    Raises:
        InvalidRequest: Other machines could reach the server, and it has no API key or no TLS; or only one of
            certificate and key is set.
    """
    keys = KeyFile(settings.key_file())
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidRequest("give both --tls-cert and --tls-key, or neither", param="tls_key")
    outside = not is_loopback(settings.host)
    if outside and settings.tls_cert is None and not settings.behind_tls_proxy:
        raise InvalidRequest(
            f"other machines can reach {settings.host}, and API keys must not be sent unencrypted: give "
            "--tls-cert and --tls-key, or --behind-tls-proxy if a proxy in front terminates TLS",
            param="host",
        )
    exposed = outside or settings.behind_tls_proxy
    if exposed and all(key.revoked_at is not None for key in keys.all()):
        raise InvalidRequest(
            f"a server that other machines can reach needs an API key, but {keys.path} has none; "
            "create one with `ampsweep keys create`",
            param="keys",
        )
    open_paths = ALWAYS_OPEN
    if settings.open_metrics:
        open_paths |= {METRICS}
    if settings.open_page:
        open_paths |= PAGE_PATHS
    return AuthPolicy(
        keys, exposed=exposed, rate_limiter=RateLimiter(settings.max_requests_a_minute or None), open_paths=open_paths
    )


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a request and of an API key."""
    return Limits(
        body_bytes=settings.max_body_bytes,
        file_bytes=settings.max_file_bytes,
        prompt_chars=settings.max_prompt_chars,
        max_tokens=settings.max_tokens,
        capture_bytes=settings.max_capture_bytes,
        cells=settings.max_cells,
        streams=settings.max_streams,
        requests_a_minute=settings.max_requests_a_minute or None,
    )
