"""Python clients of the REST API: `Client` for code without an event loop, `AsyncClient` for code in one.

Both have the methods of `ampsweep.client.api.Api`. Errors of the server are raised as the exceptions of
`ampsweep.errors`; a server that cannot be reached raises Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

import httpx

from ampsweep.client.api import Api
from ampsweep.client.environment import API_KEY, DEFAULT_URL, URL
from ampsweep.client.http.errors import check_key, check_url
from ampsweep.client.http.retries import Retries
from ampsweep.client.http.session import Session
from ampsweep.client.http.transport import AsyncTransport, BlockingTransport, TransportOptions, run_coroutine
from ampsweep.client.models import Summary
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from ampsweep.client.tables import TableForm

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 60.0
RETRIES = 4


class AsyncClient(Api):
    """Client of the server at `url`, for code in an event loop.

    The methods are documented in `ampsweep.client.api.Api`.

    Args:
        url: The URL of the server; by default AMPSWEEP_URL, else http://127.0.0.1:8700.
        api_key: The API key, if the server needs one; by default AMPSWEEP_API_KEY.
        timeout: Seconds, or an `httpx.Timeout`, to wait for a response, or for the next bytes of a stream; None
            waits without end.
        retries: How often a request is sent again if that may help and does no harm (see
            `ampsweep.client.http.retries`).

    Raises:
        InvalidRequest: The API key has characters other than printable ASCII, or httpx cannot use the proxy that
            the environment names, or the timeout is not positive.

    Example:
        async with AsyncClient() as client:
            sweep = await client.submit("sweep.yaml")
            async for state in client.watch(sweep.id):
                print(state.request_counts.completed)
            frame = await client.results(sweep.id, as_="pandas")
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout | None = TIMEOUT,
        retries: int = RETRIES,
    ) -> None:
        server_url = _server_url(url)
        transport = AsyncTransport(_options(server_url, api_key, timeout))
        super().__init__(Session(transport, url=server_url, retries=Retries(times=retries)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _blocking(
    call: Callable[Concatenate[Api, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @wraps(call)
    def blocking(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_coroutine(call(self._api, *args, **kwargs))

    return blocking


def _iterating(
    call: Callable[Concatenate[Api, P], AsyncGenerator[T]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @wraps(call)
    def iterating(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        items = call(self._api, *args, **kwargs)
        try:
            while True:
                try:
                    item = run_coroutine(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            run_coroutine(items.aclose())

    return iterating


class Client:
    """Client of the server at `url`, for code without an event loop. Thread-safe.

    Has the arguments and the methods of `AsyncClient`, without `await`: iterators are ordinary iterators.

    Example:
        with Client() as client:
            sweep = client.wait(client.submit("sweep.yaml").id)
            frame = client.results(sweep.id, as_="pandas")
            print(client.summary(sweep.id)["best_factors"])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout | None = TIMEOUT,
        retries: int = RETRIES,
    ) -> None:
        self.url = _server_url(url)
        transport = BlockingTransport(_options(self.url, api_key, timeout))
        self._api = Api(Session(transport, url=self.url, retries=Retries(times=retries)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    close = _blocking(Api.close)
    ready = _blocking(Api.ready)
    submit = _blocking(Api.submit)
    plan = _blocking(Api.plan)
    sweep = _blocking(Api.sweep)
    sweeps = _iterating(Api.sweeps)
    update_sweep = _blocking(Api.update_sweep)
    delete_sweep = _blocking(Api.delete_sweep)
    cells = _iterating(Api.cells)
    cancel = _blocking(Api.cancel)
    pause = _blocking(Api.pause)
    resume = _blocking(Api.resume)
    events = _iterating(Api.events)
    watch = _iterating(Api.watch)
    wait = _blocking(Api.wait)
    download = _blocking(Api.download)
    download_summary = _blocking(Api.download_summary)
    evaluate = _blocking(Api.evaluate)
    evaluation = _blocking(Api.evaluation)
    evaluations = _blocking(Api.evaluations)
    wait_for_evaluation = _blocking(Api.wait_for_evaluation)
    download_scores = _blocking(Api.download_scores)
    models = _blocking(Api.models)
    offers = _blocking(Api.offers)
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
    tokenize = _blocking(Api.tokenize)
    detokenize = _blocking(Api.detokenize)
    activations = _blocking(Api.activations)
    download_activations = _blocking(Api.download_activations)
    language_activity = _blocking(Api.language_activity)

    @overload
    def results(self, sweep_id: str, *, as_: Literal["arrow"] = "arrow", partial: bool = False) -> pa.Table: ...
    @overload
    def results(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    def results(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    def results(self, sweep_id: str, *, as_: TableForm = "arrow", partial: bool = False) -> Any:
        """Return all samples of a sweep as one table. Use `download` if they do not fit in memory."""
        return run_coroutine(self._api.results(sweep_id, as_=as_, partial=partial))

    @overload
    def summary(self, sweep_id: str, *, as_: None = None, partial: bool = False) -> Summary: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["arrow"], partial: bool = False) -> pa.Table: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    def summary(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    def summary(self, sweep_id: str, *, as_: TableForm | None = None, partial: bool = False) -> Any:
        """Return the metrics of a sweep: as a dict of rows and best factors, or the rows as a table."""
        return run_coroutine(self._api.summary(sweep_id, as_=as_, partial=partial))


def _server_url(url: str | None) -> str:
    server_url = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
    check_url(server_url)
    return server_url


def _options(url: str, api_key: str | None, timeout: float | httpx.Timeout | None) -> TransportOptions:
    key = (api_key or os.environ.get(API_KEY) or "").strip()
    check_key(key, param="api_key" if api_key else API_KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if isinstance(timeout, (int, float)) and not 0 < timeout <= TIMEOUT_MAX:
        message = f"timeout must be a positive number of seconds, or None to wait without end; got {timeout}"
        raise InvalidRequest(message, param="timeout")
    return {"base_url": f"{url}/v1", "timeout": timeout, "headers": headers}
