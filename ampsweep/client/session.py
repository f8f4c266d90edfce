"""One exchange with a server after another: requests sent over a wire, and again where that may help.

What a request asks and what its answer means is not known here.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ampsweep.client.errors import checked, translated
from ampsweep.client.retries import Retries
from ampsweep.client.sse import EventReader, ServerEvent
from ampsweep.client.tables import TableForm, check_form, read_table
from ampsweep.client.transport import Request, Transport
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.files import atomic_write

T = TypeVar("T")


class Session:
    """Requests to the server at `url`. Every error is one of the tree."""

    def __init__(self, wire: Transport, *, url: str, retries: Retries) -> None:
        self.url = url
        self._wire = wire
        self._retries = retries

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._wire.sleep(seconds)

    async def server_events(self, ask: Request) -> AsyncGenerator[ServerEvent]:
        """Yield the events of a stream; closing the iterator ends it."""
        response = await self._again(ask, self._opened)
        try:
            reader = EventReader()
            with translated(self.url):
                async for block in self._wire.blocks(response):
                    for event in reader.feed(block):
                        yield event
        finally:
            await self._wire.drop(response)

    async def table(self, path: str, form: TableForm, **params: str) -> Any:
        """Download a Parquet file and return it as a table."""
        check_form(form)
        with tempfile.TemporaryDirectory() as folder:
            file = await self.download(get(path, **params), Path(folder) / "table.parquet")
            return await self._wire.run_in_thread(read_table, file, form)

    async def download(self, ask: Request, target: Path) -> Path:
        """Write what is answered to `target`, whole or not at all, and return the path."""
        if not target.parent.is_dir():
            raise InvalidRequest(f"there is no folder {target.parent}", param="path")

        async def written(ask: Request) -> None:
            response = await self._opened(ask)
            try:
                with atomic_write(target) as temporary, temporary.open("wb") as file, translated(self.url):
                    async for block in self._wire.blocks(response):
                        await self._wire.run_in_thread(file.write, block)
            finally:
                await self._wire.drop(response)

        await self._again(ask, written)
        return target

    async def pages(self, path: str, **asked: str) -> AsyncGenerator[dict[str, Any]]:
        """Yield the objects of a list, page by page; `asked` says which."""
        while True:
            page = await self.json(get(path, **asked))
            for each in page["data"]:
                yield each
            if not page.get("has_more"):
                return
            asked["after"] = page["last_id"]

    async def json(self, ask: Request) -> dict[str, Any]:
        """Return an answer's object, asking again as long as that may help."""
        return await self._again(ask, self.once)

    async def _again(self, ask: Request, once: Callable[[Request], Awaitable[T]]) -> T:
        """Do it once, and again as long as that may help."""
        for attempt in count(1):
            try:
                return await once(ask)
            except AmpsweepError as error:
                chance = random.random()  # noqa: S311
                wait = self._retries.wait(error, attempt=attempt, repeatable=ask.repeatable, chance=chance)
                if wait is None:
                    raise
            await self._wire.sleep(wait)
        raise AssertionError("it is returned or raised before")

    async def once(self, ask: Request) -> dict[str, Any]:
        """Return an answer's object; ask only once."""
        response = await self._opened(ask)
        try:
            with translated(self.url):
                await self._wire.read(response)
        finally:
            await self._wire.drop(response)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise AmpsweepError(f"what answers at {response.url} is no ampsweep server: it sent no JSON object")
        return content

    async def _opened(self, ask: Request) -> httpx.Response:
        """Return the head of an answer that is no error."""
        with translated(self.url):
            response = await self._wire.send(ask)
            try:
                if not response.is_success:
                    await self._wire.read(response)
                checked(response)
            except BaseException:
                await self._wire.drop(response)
                raise
        return response


def get(path: str, **params: str) -> Request:
    """Return a request for what is there."""
    return Request(method="GET", path=path, params=params, repeatable=True)
