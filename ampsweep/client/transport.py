"""What a client needs of the world: requests, waiting, and work that blocks.

The two wires do the same under the same names. Those of `BlockingTransport` are coroutines that never wait: they do
their work at once, so that one set of calls (`ampsweep.client.api`) serves threads and event loops alike; `finished`
runs them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar
from urllib.parse import urlsplit

import httpx

from ampsweep.errors import InvalidRequest
from ampsweep.proxies import is_loopback

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request. `repeatable` says that it does the same when it is done twice."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    repeatable: bool
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] | None = None
    json: Any = None


class TransportOptions(TypedDict):
    """What both of httpx's clients are told."""

    base_url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout | float


def _without_proxy(options: TransportOptions) -> bool:
    """Return whether httpx must not look for a proxy in the environment."""
    return is_loopback(urlsplit(options["base_url"]).hostname or "")


class Transport(Protocol):
    """Raises what httpx raises."""

    async def send(self, ask: Request) -> httpx.Response:
        """Send a request and return the answer's head; `read` or `blocks` gets its body, `drop` ends it."""

    async def read(self, response: httpx.Response) -> None:
        """Read a body whole."""

    def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield a body as it comes."""

    async def drop(self, response: httpx.Response) -> None:
        """Let go of an answer; a connection whose body was not read is closed."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what blocks (a file, a large table) where it keeps no one else waiting."""

    async def close(self) -> None:
        """Close the connections."""


class AsyncTransport:
    """The wire of an event loop."""

    def __init__(self, options: TransportOptions) -> None:
        # A transport of one's own keeps httpx from looking for a proxy in the environment.
        transport = httpx.AsyncHTTPTransport() if _without_proxy(options) else None
        with _usable_proxy():
            self._http = httpx.AsyncClient(**options, transport=transport)

    async def send(self, ask: Request) -> httpx.Response:
        """Send a request and return the answer's head."""
        return await self._http.send(_request(self._http, ask), stream=True)

    async def read(self, response: httpx.Response) -> None:
        """Read a body whole."""
        await response.aread()

    def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield a body as it comes."""
        return response.aiter_bytes()

    async def drop(self, response: httpx.Response) -> None:
        """Let go of an answer."""
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what blocks in a thread."""
        return await asyncio.to_thread(work, *args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class BlockingTransport:
    """The wire of a thread. It may be used by several."""

    def __init__(self, options: TransportOptions) -> None:
        transport = httpx.HTTPTransport() if _without_proxy(options) else None
        with _usable_proxy():
            self._http = httpx.Client(**options, transport=transport)

    async def send(self, ask: Request) -> httpx.Response:
        """Send a request and return the answer's head."""
        return self._http.send(_request(self._http, ask), stream=True)

    async def read(self, response: httpx.Response) -> None:
        """Read a body whole."""
        response.read()

    async def blocks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield a body as it comes."""
        for block in response.iter_bytes():
            yield block

    async def drop(self, response: httpx.Response) -> None:
        """Let go of an answer."""
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251  (nobody shares this wire's thread)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what blocks here: whoever called waits for it anyway."""
        return work(*args, **kwargs)

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()


@contextmanager
def _usable_proxy() -> Iterator[None]:
    """Raise InvalidRequest for a proxy of the environment that httpx cannot use."""
    try:
        yield
    except (ImportError, ValueError) as error:  # httpx needs a package for SOCKS, and refuses other schemes
        message = f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) cannot be used: {error}"
        raise InvalidRequest(f"{message}; unset it, or name the server in NO_PROXY", param="ALL_PROXY") from error


def finished(work: Awaitable[T]) -> T:
    """Return what a coroutine over a `BlockingTransport` returns, or raise what it raises."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("a coroutine over a blocking wire waits for nothing")


def _request(http: httpx.Client | httpx.AsyncClient, ask: Request) -> httpx.Request:
    return http.build_request(ask.method, ask.path, params=ask.params, headers=ask.headers, json=ask.json)
