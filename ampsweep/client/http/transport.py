"""HTTP transports of the clients: sending requests, sleeping and running blocking work.

`AsyncTransport` and `BlockingTransport` have the same methods. The methods of `BlockingTransport` are coroutines that
never suspend, so one implementation of the API (`ampsweep.client.api`) serves both clients; `run_coroutine` runs them
without an event loop. Knows nothing of retries or of the API's routes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar
from urllib.parse import urlsplit

import httpx

from ampsweep.errors import InvalidRequest, shortened
from ampsweep.proxies import is_loopback

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request below `/v1`. `repeatable` means that sending it twice has the same effect as sending it once."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    repeatable: bool
    params: Mapping[str, str | int | Sequence[str]] | None = None
    headers: Mapping[str, str] | None = None
    json: Any = None


class TransportOptions(TypedDict):
    """Keyword arguments that both httpx clients take."""

    base_url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout | float | None


def _without_proxy(options: TransportOptions) -> bool:
    """Return whether httpx must ignore the proxy that the environment names."""
    return is_loopback(urlsplit(options["base_url"]).hostname or "")


def _ssl_context(options: TransportOptions) -> ssl.SSLContext:
    """Return what verifies the certificate of the server.

    A server without TLS gets one that trusts nobody, because reading the trusted certificates, which httpx does for
    each transport and proxy, takes longer than a request. It rejects a server with TLS.

    Raises:
        InvalidRequest: The certificates that the environment names cannot be read.
    """
    if urlsplit(options["base_url"]).scheme == "https":
        try:
            return httpx.create_ssl_context()
        except OSError as error:  # ssl.SSLError too
            reason = error.strerror or str(error)
            message = f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {reason}"
            raise InvalidRequest(f"{message}; correct the variable, or unset it", param="SSL_CERT_FILE") from error
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Transport(Protocol):
    """Sends requests. Raises the exceptions of httpx, and InvalidRequest for a request that cannot be expressed."""

    async def send(self, request: Request) -> httpx.Response:
        """Send a request and return the response before its body: `read` or `blocks` read it, `discard` closes it."""

    async def read(self, response: httpx.Response) -> None:
        """Read the whole body into the response."""

    def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the body in blocks, as they arrive."""

    async def discard(self, response: httpx.Response) -> None:
        """Close a response. Closes the connection too if the body was not read to its end."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for that many seconds."""

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work (file access, large tables) without blocking an event loop; return its result."""

    async def close(self) -> None:
        """Close the connections."""


class AsyncTransport:
    """Transport for code in an event loop."""

    def __init__(self, options: TransportOptions) -> None:
        # httpx ignores the proxy variables of the environment if it is given a transport.
        context = _ssl_context(options)
        transport = httpx.AsyncHTTPTransport(verify=context) if _without_proxy(options) else None
        with _usable_proxy():
            self._http = httpx.AsyncClient(**options, transport=transport, verify=context)

    async def send(self, request: Request) -> httpx.Response:
        """Send a request and return the response before its body."""
        return await self._http.send(_build(self._http, request), stream=True)

    async def read(self, response: httpx.Response) -> None:
        """Read the whole body into the response."""
        await response.aread()

    def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the body in blocks, as they arrive."""
        return response.aiter_bytes()

    async def discard(self, response: httpx.Response) -> None:
        """Close a response."""
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Sleep for that many seconds."""
        await asyncio.sleep(seconds)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread; return its result."""
        return await asyncio.to_thread(work, *args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class BlockingTransport:
    """Transport for code without an event loop. Thread-safe."""

    def __init__(self, options: TransportOptions) -> None:
        context = _ssl_context(options)
        transport = httpx.HTTPTransport(verify=context) if _without_proxy(options) else None
        with _usable_proxy():
            self._http = httpx.Client(**options, transport=transport, verify=context)

    async def send(self, request: Request) -> httpx.Response:
        """Send a request and return the response before its body."""
        return self._http.send(_build(self._http, request), stream=True)

    async def read(self, response: httpx.Response) -> None:
        """Read the whole body into the response."""
        response.read()

    async def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the body in blocks, as they arrive."""
        for block in response.iter_bytes():
            yield block

    async def discard(self, response: httpx.Response) -> None:
        """Close a response."""
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Sleep for that many seconds."""
        time.sleep(seconds)  # noqa: ASYNC251  (no event loop runs in this thread)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work in the calling thread, which waits for it anyway."""
        return work(*args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()


@contextmanager
def _usable_proxy() -> Iterator[None]:
    """Raise InvalidRequest if the environment names a proxy that httpx cannot use."""
    try:
        yield
    except (ImportError, ValueError) as error:  # httpx needs an extra package for SOCKS, and rejects unknown schemes
        message = f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) cannot be used: {error}"
        raise InvalidRequest(f"{message}; unset it, or name the server in NO_PROXY", param="ALL_PROXY") from error


def run_coroutine(work: Awaitable[T]) -> T:
    """Run a coroutine that uses a `BlockingTransport` to its end; return its result or raise its exception."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("a coroutine over a blocking transport never suspends")


def _build(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    """Return a request as httpx sends it; raise InvalidRequest if JSON or a header cannot express a value."""
    try:
        return http.build_request(
            request.method, request.path, params=request.params, headers=request.headers, json=request.json
        )
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "give values of JSON, finite numbers, text without lone surrogates, and headers in ASCII"
        raise InvalidRequest(f"the request cannot be sent: {shortened(str(error))}; {remedy}") from error
