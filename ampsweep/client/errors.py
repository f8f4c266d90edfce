"""What goes wrong between a client and a server, as exceptions of the one tree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any

import httpx

from ampsweep.errors import AmpsweepError, ConnectionLost, InvalidRequest, NoConnection, Unavailable, from_code
from ampsweep.proxies import proxy_of

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_FROM_PROXIES: dict[int, type[AmpsweepError]] = {502: ConnectionLost, 503: Unavailable, 504: ConnectionLost}
"""What the answers mean that come from a proxy in front of the server, without a word of ours."""


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise what httpx raises as errors of ours; `url` is the server's."""
    try:
        yield
    except (*_NOT_SENT, httpx.ProxyError) as error:
        raise NoConnection(f"no connection to a server at {url}{_through(url)}: {_told(error)}") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InvalidRequest(f"{url!r} is not a server's URL such as http://127.0.0.1:8700", param="url") from error
    except httpx.TimeoutException as error:
        raise ConnectionLost(f"the server at {url} did not answer in time") from error
    except httpx.TransportError as error:
        raise ConnectionLost(f"the connection to {url} broke{_through(url)}: {_told(error)}") from error


def checked(response: httpx.Response) -> None:
    """Raise the error that an answer tells of; the body of one that is no success was read."""
    if response.is_success:
        return
    after = retry_after(response.headers.get("Retry-After"), now=time.time())
    try:
        content = response.json()
    except ValueError:
        content = {}
    if isinstance(content, dict):
        raise_error(content, status=response.status_code, after=after)
    kind = _FROM_PROXIES.get(response.status_code, AmpsweepError)
    proxy = _through(str(response.url))
    error = kind(f"the server answered {response.status_code} {response.reason_phrase} to {response.url}{proxy}")
    error.retry_after = after
    raise error


def raise_error(content: dict[str, Any], *, status: int | None = None, after: int | None = None) -> dict[str, Any]:
    """Raise the error in a body, with the `status` it came with and when to come back; return a body without one."""
    told = content.get("error")
    if not isinstance(told, dict):
        return content
    code = str(told.get("code"))
    error = from_code(code, str(told.get("message")), param=told.get("param"))
    if after is not None:
        error.retry_after = after
    if error.code != code:  # of a newer server, or of HTTP itself
        error.code = code
        error.status = status or error.status
    raise error


def retry_after(header: str | None, *, now: float) -> int | None:
    """Read a Retry-After header, in seconds or as a date; `now` is seconds since the epoch."""
    if not header:
        return None
    if header.strip().isdecimal():
        return int(header)
    try:
        return max(0, ceil(parsedate_to_datetime(header).timestamp() - now))
    except ValueError:
        return None


def _through(url: str) -> str:
    """Return words that name the proxy on the way to a server, which may be what is wrong; none where there is none."""
    proxy = proxy_of(url)
    return "" if proxy is None else f" through the proxy {proxy} of the environment (NO_PROXY exempts a host)"


def _told(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
