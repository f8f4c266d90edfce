"""A server's REST interface as Python calls: `Client` for threads, `AsyncClient` for event loops.

Both are the calls of `ampsweep.client.api`, under the same names. Errors of the server come back as the exceptions it
raised (see `ampsweep.errors`); one that cannot be reached raises Unavailable. A Client may be used from several
threads.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

import httpx

from ampsweep.client.api import Api
from ampsweep.client.models import Summary
from ampsweep.client.retries import Retries
from ampsweep.client.session import Session
from ampsweep.client.transport import AsyncTransport, BlockingTransport, TransportOptions, finished
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from ampsweep.client.tables import TableForm

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8700"
URL = "AMPSWEEP_URL"
API_KEY = "AMPSWEEP_API_KEY"
TIMEOUT = 60.0
RETRIES = 4


class AsyncClient(Api):
    """Talks to the server at `url`, by default that of AMPSWEEP_URL, else of this machine, from an event loop.

    `api_key` is what the server asks for, by default what AMPSWEEP_API_KEY says. `timeout` is for one answer, and for a
    pause within a stream: seconds, or an httpx.Timeout. A request that was not answered, and does no harm twice, is
    sent again up to `retries` times; so is any that the server refused for the moment (see `ampsweep.client.retries`).
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = TIMEOUT,
        retries: int = RETRIES,
    ) -> None:
        where = _server(url)
        wire = AsyncTransport(_options(where, api_key, timeout))
        super().__init__(Session(wire, url=where, retries=Retries(times=retries)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _blocking(
    call: Callable[Concatenate[Api, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @wraps(call)
    def blocking(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return finished(call(self.calls, *args, **kwargs))

    return blocking


def _iterating(
    call: Callable[Concatenate[Api, P], AsyncGenerator[T]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @wraps(call)
    def iterating(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        items = call(self.calls, *args, **kwargs)
        try:
            while True:
                try:
                    item = finished(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            finished(items.aclose())

    return iterating


class Client:
    """As AsyncClient, for code without an event loop: every method returns what awaiting it there gives."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = TIMEOUT,
        retries: int = RETRIES,
    ) -> None:
        self.url = _server(url)
        wire = BlockingTransport(_options(self.url, api_key, timeout))
        self.calls = Api(Session(wire, url=self.url, retries=Retries(times=retries)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    close = _blocking(Api.close)
    ready = _blocking(Api.ready)
    submit = _blocking(Api.submit)
    sweep = _blocking(Api.sweep)
    sweeps = _iterating(Api.sweeps)
    cells = _iterating(Api.cells)
    cancel = _blocking(Api.cancel)
    pause = _blocking(Api.pause)
    resume = _blocking(Api.resume)
    events = _iterating(Api.events)
    watch = _iterating(Api.watch)
    wait = _blocking(Api.wait)
    download = _blocking(Api.download)
    download_summary = _blocking(Api.download_summary)
    models = _blocking(Api.models)
    engines = _blocking(Api.engines)
    retry_engines = _blocking(Api.retry_engines)
    neuron_sets = _blocking(Api.neuron_sets)
    neuron_set = _blocking(Api.neuron_set)
    create_neuron_set = _blocking(Api.create_neuron_set)
    default_neuron_set = _blocking(Api.default_neuron_set)
    set_default_neuron_set = _blocking(Api.set_default_neuron_set)
    clear_default_neuron_set = _blocking(Api.clear_default_neuron_set)
    wait_for_neurons = _blocking(Api.wait_for_neurons)
    complete = _blocking(Api.complete)
    stream = _iterating(Api.stream)
    chat = _blocking(Api.chat)
    stream_chat = _iterating(Api.stream_chat)

    @overload
    def results(self, sweep_id: str, *, as_: Literal["arrow"] = "arrow", partial: bool = False) -> pa.Table: ...
    @overload
    def results(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    def results(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    def results(self, sweep_id: str, *, as_: TableForm = "arrow", partial: bool = False) -> Any:
        """Return all samples of a sweep as one table. For more than fits in memory use `download`."""
        return finished(self.calls.results(sweep_id, as_=as_, partial=partial))

    @overload
    def summary(self, sweep_id: str, *, as_: None = None, partial: bool = False) -> Summary: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["arrow"], partial: bool = False) -> pa.Table: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    def summary(self, sweep_id: str, *, as_: TableForm | None = None, partial: bool = False) -> Any:
        """Return the metrics of a finished sweep: as a dict with the best factors, or the rows as a table."""
        return finished(self.calls.summary(sweep_id, as_=as_, partial=partial))


def _server(url: str | None) -> str:
    return (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")


def _options(url: str, api_key: str | None, timeout: float | httpx.Timeout) -> TransportOptions:
    key = (api_key or os.environ.get(API_KEY) or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("it holds characters that no API key has", param="api_key" if api_key else API_KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": f"{url}/v1", "timeout": timeout, "headers": headers}
