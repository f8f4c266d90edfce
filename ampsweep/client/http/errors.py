"""Turns httpx's exceptions and error responses into the exceptions of `ampsweep.errors`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import httpx

from ampsweep.errors import (
    AmpsweepError,
    ConnectionLost,
    InvalidRequest,
    NoConnection,
    Unavailable,
    from_code,
    shortened,
)
from ampsweep.proxies import proxy_of

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_FROM_PROXIES: dict[int, type[AmpsweepError]] = {502: ConnectionLost, 503: Unavailable, 504: ConnectionLost}
"""Meaning of gateway statuses without an error object: a proxy in front of the server sent them."""


def check_url(url: str) -> None:
    """Raise InvalidRequest (param "url") unless `url` is an HTTP URL with a host."""
    try:
        _ = urlsplit(url).port  # raises ValueError if it is not a port
        parts = httpx.URL(url)
        valid = parts.scheme in ("http", "https") and parts.host != ""
    except (ValueError, httpx.InvalidURL):
        valid = False
    if not valid:
        raise InvalidRequest(f"{url!r} is not the URL of a server; give one such as http://127.0.0.1:8700", param="url")


def check_key(key: str, *, param: str) -> None:
    """Raise InvalidRequest if an API key cannot be sent in a header; `param` names where it came from."""
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("the API key has characters other than printable ASCII; copy it again", param=param)


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Re-raise the exceptions of httpx as AmpsweepError; `url` is the URL of the server."""
    try:
        yield
    except (*_NOT_SENT, httpx.ProxyError) as error:
        raise NoConnection(f"no connection to a server at {url}{_via_proxy(url)}: {_detail(error)}") from error
    except httpx.TimeoutException as error:
        raise ConnectionLost(f"the server at {url} did not answer in time") from error
    except httpx.LocalProtocolError as error:
        raise InvalidRequest(f"the request to {url} cannot be sent: {_detail(error)}; correct its headers") from error
    except httpx.TransportError as error:
        raise ConnectionLost(f"the connection to {url} broke{_via_proxy(url)}: {_detail(error)}") from error
    except httpx.DecodingError as error:
        message = f"a response of {url} is compressed and cannot be decoded{_via_proxy(url)}: {_detail(error)}"
        raise ConnectionLost(message) from error


def raise_for_status(response: httpx.Response) -> None:
    """Raise the error that a response reports. The body of an error response must have been read."""
    if response.is_success:
        return
    after = retry_after(response.headers.get("Retry-After"), now=time.time())
    if isinstance(content := json_of(response), dict):
        raise_error(content, status=response.status_code, after=after)
    kind = _FROM_PROXIES.get(response.status_code, AmpsweepError)
    proxy = _via_proxy(str(response.url))
    message = f"the server answered {response.status_code} {response.reason_phrase} to {response.url}{proxy}"
    if response.has_redirect_location:
        message += f"; it leads to {shortened(response.headers['Location'])}: give the URL of the server itself"
    error = kind(message)
    error.retry_after = after
    raise error


def json_of(response: httpx.Response) -> Any:
    """Return the JSON value of a response; None if it is none."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def no_server(response: httpx.Response, expected: str) -> AmpsweepError:
    """Return the error for a successful response that is not `expected`: a proxy's page, or another kind of server."""
    return AmpsweepError(f"{response.url} is not an ampsweep server: its response is not {expected}; check the URL")


def raise_error(content: dict[str, Any], *, status: int | None = None, after: int | None = None) -> dict[str, Any]:
    """Raise the error in a body, or return a body that holds none.

    Args:
        content: The JSON object of a response or of an event.
        status: The HTTP status of the response.
        after: Seconds after which a retry may succeed, from the Retry-After header.

    Returns:
        The body, unchanged.

    Raises:
        AmpsweepError: The body holds an error. Its class is that of the error's `code`.
    """
    error_object = content.get("error")
    if not isinstance(error_object, dict):
        return content
    code = str(error_object.get("code"))
    error = from_code(code, str(error_object.get("message")), param=error_object.get("param"))
    if after is not None:
        error.retry_after = after
    if error.code != code:  # a code of a newer server, or of an HTTP error
        error.code = code
        error.status = status or error.status
    raise error


def retry_after(header: str | None, *, now: float) -> int | None:
    """Parse a Retry-After header, which is in seconds or a date, to seconds; `now` is in seconds since the epoch."""
    if not header:
        return None
    try:
        if header.strip().isdecimal():
            return int(header)
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    utc = date if date.tzinfo is not None else date.replace(tzinfo=UTC)  # "-0000" is UTC of an unknown place
    return max(0, ceil(utc.timestamp() - now))


def _via_proxy(url: str) -> str:
    """Return a phrase that names the proxy used for a URL, since it may be the cause; empty without a proxy."""
    proxy = proxy_of(url)
    return "" if proxy is None else f" through the proxy {proxy} of the environment (NO_PROXY exempts a host)"


def _detail(error: httpx.RequestError) -> str:
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; name the certificate of its authority in SSL_CERT_FILE, or correct the host of the URL"
    return text
