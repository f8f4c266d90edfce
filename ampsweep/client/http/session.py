"""Sends requests to a server and retries those that may succeed later; reads responses as JSON, events or files.

Knows nothing of the API's routes, nor of what a response means.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from ampsweep.client.http.errors import json_of, no_server, raise_for_status, translate_errors
from ampsweep.client.http.retries import Retries
from ampsweep.client.http.sse import EventReader, ServerEvent
from ampsweep.client.http.transport import Request, Transport
from ampsweep.client.tables import TableForm, check_form, is_parquet, read_table
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write

T = TypeVar("T")


class Session:
    """Requests to the server at `url`. Every error it raises is an AmpsweepError."""

    def __init__(self, transport: Transport, *, url: str, retries: Retries) -> None:
        self.url = url
        self._transport = transport
        self._retries = retries

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def sleep(self, seconds: float) -> None:
        """Sleep for that many seconds."""
        await self._transport.sleep(seconds)

    async def server_events(self, request: Request) -> AsyncGenerator[ServerEvent]:
        """Yield the server-sent events of a response; closing the iterator closes the connection."""
        response = await self._with_retries(request, self._open)
        try:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise no_server(response, "a stream of events")
            reader = EventReader()
            with translate_errors(self.url):
                async for block in self._transport.blocks(response):
                    for event in reader.feed(block):
                        yield event
        finally:
            await self._transport.discard(response)

    async def table(self, path: str, form: TableForm, **params: str) -> Any:
        """Download a Parquet file and return it as a table."""
        return await self.table_of(get(path, **params), form)

    async def table_of(self, request: Request, form: TableForm) -> Any:
        """Send a request whose response is a Parquet file, and return it as a table."""
        check_form(form)
        with tempfile.TemporaryDirectory(prefix="ampsweep-table-") as folder:
            file = await self.download(request, Path(folder) / "table.parquet")
            return await self._transport.run_in_thread(read_table, file, form)

    async def download(self, request: Request, target: Path) -> Path:
        """Write the body of the response, a Parquet file, to `target` atomically, and return the path."""
        if not target.parent.is_dir():
            raise InvalidRequest(f"the folder {target.parent} does not exist; create it first", param="path")

        async def write_once(request: Request) -> None:
            response = await self._open(request)
            try:
                with atomic_write(target) as temporary:
                    with temporary.open("wb") as file, translate_errors(self.url):
                        async for block in self._transport.blocks(response):
                            await self._transport.run_in_thread(file.write, block)
                    if not is_parquet(temporary):
                        raise no_server(response, "a Parquet file")
            finally:
                await self._transport.discard(response)

        await self._with_retries(request, write_once)
        return target

    async def pages(self, path: str, **params: str | Sequence[str]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the objects of a list, page by page; `params` are the query parameters of the first page."""
        while True:
            page = await self.json(get(path, **params))
            for item in page["data"]:
                yield item
            if not page.get("has_more"):
                return
            params["after"] = page["last_id"]

    async def json(self, request: Request) -> dict[str, Any]:
        """Send a request, with retries, and return the JSON object of the response."""
        return await self._with_retries(request, self.json_once)

    async def _with_retries(self, request: Request, send: Callable[[Request], Awaitable[T]]) -> T:
        """Call `send` until it succeeds; see `Retries.until_success`."""
        return await self._retries.until_success(
            partial(send, request), repeatable=request.repeatable, sleep=self._transport.sleep
        )

    async def json_once(self, request: Request) -> dict[str, Any]:
        """Send a request once, without retries, and return the JSON object of the response."""
        response = await self._open(request)
        try:
            with translate_errors(self.url):
                await self._transport.read(response)
        finally:
            await self._transport.discard(response)
        content = json_of(response)
        if not isinstance(content, dict):
            raise no_server(response, "a JSON object")
        return content

    async def send(self, request: Request) -> None:
        """Send a request whose response has no content, and retry it."""

        async def send_once(request: Request) -> None:
            await self._transport.discard(await self._open(request))

        await self._with_retries(request, send_once)

    async def _open(self, request: Request) -> httpx.Response:
        """Send a request and return the response before its body; raise if it is an error."""
        with translate_errors(self.url):
            response = await self._transport.send(request)
            try:
                if not response.is_success:
                    await self._transport.read(response)
                raise_for_status(response)
            except BaseException:
                await self._transport.discard(response)
                raise
        return response


def get(path: str, **params: str | Sequence[str]) -> Request:
    """Return a GET request."""
    return Request(method="GET", path=path, params=params, repeatable=True)


def post(path: str, json: Any = None) -> Request:
    """Return a POST request that must not be sent twice."""
    return Request(method="POST", path=path, json=json, repeatable=False)


def segment(value: str) -> str:
    """Return an id, escaped, as a segment of a path; `-`, which names nothing, for an empty id, `.` and `..`."""
    return quote(value, safe="") if value not in ("", ".", "..") else "-"
