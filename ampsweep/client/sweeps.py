"""The clients' methods for sweeps: submit, watch, rename, pause, cancel and delete them, and read their results."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from ampsweep.client.http.session import Session, get, post, segment
from ampsweep.client.http.transport import Request
from ampsweep.client.models import Cell, Event, Summary, SummaryDict, Sweep, SweepPlan
from ampsweep.client.tables import TableForm
from ampsweep.documents import read_spec
from ampsweep.errors import Unavailable

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

RECONNECT_SECONDS = 1.0
"""Seconds that `events` waits before it resumes a broken stream."""
RECONNECTS = 30
"""Failed attempts in a row after which `events` gives up."""


class SweepMethods:
    """Methods for `/v1/sweeps`."""

    _session: Session

    async def submit(
        self, spec: Mapping[str, Any] | Path | str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> Sweep:
        """Submit a sweep and return it.

        Args:
            spec: The sweep's spec: a dict, or the path of a YAML or JSON file.
            idempotency_key: A second call with the same key and the same spec returns the sweep of the first call.
                By default each call has a random key, so that a retried request creates no second sweep.
            priority: -100 to 100. Sweeps of higher priority run first.

        Raises:
            InvalidRequest: A field of the spec is wrong; `param` names it.
        """
        content = dict(spec) if isinstance(spec, Mapping) else read_spec(Path(spec))
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _sweep(
            await self._session.json(
                Request(
                    method="POST",
                    path="/sweeps",
                    json=content,
                    headers=headers,
                    params={"priority": priority},
                    repeatable=True,
                )
            )
        )

    async def plan(self, spec: Mapping[str, Any] | Path | str) -> SweepPlan:
        """Return what a sweep would cost: cells, requests, tokens, memory and time. Nothing is submitted.

        Args:
            spec: The sweep's spec: a dict, or the path of a YAML or JSON file.

        Raises:
            InvalidRequest: A field of the spec is wrong; `param` names it.
        """
        content = dict(spec) if isinstance(spec, Mapping) else read_spec(Path(spec))
        request = Request(method="POST", path="/sweeps/plan", json=content, repeatable=True)
        return cast("SweepPlan", await self._session.json(request))

    async def sweep(self, sweep_id: str) -> Sweep:
        """Return the current state of a sweep; raise NotFound if there is no such sweep."""
        return _sweep(await self._session.json(get(f"/sweeps/{segment(sweep_id)}")))

    async def sweeps(self, *, tags: Sequence[str] = (), text: str | None = None) -> AsyncGenerator[Sweep]:
        """Yield the sweeps, newest first.

        Args:
            tags: Only sweeps that have all of these tags.
            text: Only sweeps with this text in their name, model or id, in upper or lower case.
        """
        filters: dict[str, str | Sequence[str]] = {"tag": list(tags)} if tags else {}
        if text is not None:
            filters["text"] = text
        async with aclosing(self._session.pages("/sweeps", **filters)) as items:
            async for item in items:
                yield _sweep(item)

    async def update_sweep(self, sweep_id: str, *, name: str | None = None, tags: Sequence[str] | None = None) -> Sweep:
        """Rename a sweep, replace its tags, or both, and return it.

        Raises:
            InvalidRequest: Neither a name nor tags are given, or one of them is not valid; `param` names it.
            Forbidden: The sweep was submitted with another API key.
        """
        given = {"name": name, "tags": None if tags is None else list(tags)}
        changes = {field: value for field, value in given.items() if value is not None}
        path = f"/sweeps/{segment(sweep_id)}"
        return _sweep(await self._session.json(Request(method="PATCH", path=path, json=changes, repeatable=True)))

    async def delete_sweep(self, sweep_id: str) -> None:
        """Delete a sweep that has ended, with its results. Cells that other sweeps need are kept.

        Raises:
            Conflict: The sweep has not ended; cancel it first.
            Forbidden: The sweep was submitted with another API key.
        """
        path = f"/sweeps/{segment(sweep_id)}"
        await self._session.send(Request(method="DELETE", path=path, repeatable=False))

    async def cells(self, sweep_id: str, *, failures: bool = False) -> AsyncGenerator[Cell]:
        """Yield the cells of a sweep in plan order; with `failures` only those that failed or have failed samples."""
        params = {"failures": "true"} if failures else {}
        async with aclosing(self._session.pages(f"/sweeps/{segment(sweep_id)}/cells", **params)) as items:
            async for item in items:
                yield cast("Cell", item)

    async def cancel(self, sweep_id: str) -> Sweep:
        """Cancel a sweep; raise Conflict if it has ended."""
        return _sweep(await self._session.json(post(f"/sweeps/{segment(sweep_id)}/cancel")))

    async def pause(self, sweep_id: str) -> Sweep:
        """Pause a sweep: start no more of its cells; raise Conflict unless it is in progress."""
        return _sweep(await self._session.json(post(f"/sweeps/{segment(sweep_id)}/pause")))

    async def resume(self, sweep_id: str) -> Sweep:
        """Resume a paused sweep; raise Conflict unless it is paused."""
        return _sweep(await self._session.json(post(f"/sweeps/{segment(sweep_id)}/resume")))

    async def events(self, sweep_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the events of a sweep after the id `after`, past ones first, until the sweep has ended.

        Resumes after a broken connection: no event is lost or repeated.

        Raises:
            Unavailable: RECONNECTS attempts in a row failed.
        """
        ended = (await self.sweep(sweep_id)).ended
        failures = 0
        while True:
            try:
                async with aclosing(self._event_stream(sweep_id, after)) as events:
                    async for event in events:
                        after, failures = event.id, 0
                        yield event
                if ended:  # only a stream opened after the end is certain to hold all events
                    return
                ended = (await self.sweep(sweep_id)).ended
            except Unavailable:
                failures += 1
                if failures > RECONNECTS:
                    raise
            if failures or not ended:
                await self._session.sleep(RECONNECT_SECONDS)

    async def watch(self, sweep_id: str, *, interval: float = 0.25) -> AsyncGenerator[Sweep]:
        """Yield the sweep now, after new events (at most once every `interval` seconds) and when it has ended."""
        yield await self.sweep(sweep_id)
        shown = time.monotonic()
        async with aclosing(self.events(sweep_id)) as events:
            async for _ in events:
                if time.monotonic() - shown >= interval:
                    yield await self.sweep(sweep_id)
                    shown = time.monotonic()
        yield await self.sweep(sweep_id)

    async def wait(self, sweep_id: str) -> Sweep:
        """Wait until a sweep has ended and return it."""
        async with aclosing(self.events(sweep_id)) as events:
            async for _ in events:
                pass
        return await self.sweep(sweep_id)

    @overload
    async def results(self, sweep_id: str, *, as_: Literal["arrow"] = "arrow", partial: bool = False) -> pa.Table: ...
    @overload
    async def results(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    async def results(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    async def results(self, sweep_id: str, *, as_: TableForm = "arrow", partial: bool = False) -> Any:
        """Return all samples of a sweep as one table. Use `download` if they do not fit in memory.

        docs/results.md describes the columns; `ampsweep.client.tables.read_table` says which types they have.
        """
        return await self._session.table(f"/sweeps/{segment(sweep_id)}/results", as_, **_partial(partial))

    async def download(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Download the samples of a sweep as a Parquet file, which is written atomically.

        With `partial` the sweep need not have ended: the file has the cells completed so far, and its metadata says
        so (`ampsweep.partial`).

        Returns:
            The path of the file.
        """
        request = get(f"/sweeps/{segment(sweep_id)}/results", **_partial(partial))
        return await self._session.download(request, Path(path))

    async def download_summary(self, sweep_id: str, path: Path | str, *, partial: bool = False) -> Path:
        """Download the summary of a sweep as a Parquet file, as `download` does with the samples."""
        request = get(f"/sweeps/{segment(sweep_id)}/summary", format="parquet", **_partial(partial))
        return await self._session.download(request, Path(path))

    @overload
    async def summary(self, sweep_id: str, *, as_: None = None, partial: bool = False) -> Summary: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["arrow"], partial: bool = False) -> pa.Table: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["pandas"], partial: bool = False) -> pd.DataFrame: ...
    @overload
    async def summary(self, sweep_id: str, *, as_: Literal["polars"], partial: bool = False) -> pl.DataFrame: ...
    async def summary(self, sweep_id: str, *, as_: TableForm | None = None, partial: bool = False) -> Any:
        """Return the metrics of a sweep: as a dict of rows and best factors, or the rows as a table."""
        path = f"/sweeps/{segment(sweep_id)}/summary"
        if as_ is None:
            return SummaryDict(await self._session.json(get(path, format="json", **_partial(partial))))
        return await self._session.table(path, as_, format="parquet", **_partial(partial))

    async def _event_stream(self, sweep_id: str, after: int) -> AsyncGenerator[Event]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        request = Request(method="GET", path=f"/sweeps/{segment(sweep_id)}/events", headers=headers, repeatable=True)
        async with aclosing(self._session.server_events(request)) as events:
            async for event in events:
                yield Event(id=int(event.id), type=event.type, data=json.loads(event.data))


def _partial(partial: bool) -> dict[str, str]:
    return {"partial": "true"} if partial else {}


def _sweep(content: Mapping[str, Any]) -> Sweep:
    return Sweep.model_validate(content)
