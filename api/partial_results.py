"""Partial results as an answer: put together for one request, marked in a header, deleted afterwards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ampsweep.errors import NotFound
from api.services import Services
from jobs.results.writer import Results
from jobs.store.records import SweepRecord

PARTIAL_HEADER = "Ampsweep-Partial"
"""`included/total`: how many of the sweep's cells are in a partial answer."""


@dataclass(frozen=True, kw_only=True)
class FoundResults:
    """A sweep whose files `results` has; of partial ones also their folder, and what the header says."""

    sweep: SweepRecord
    results: Results
    folder: Path | None = None
    included: str | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the files were made for one answer."""
        return self.folder is not None

    def marked(self, answer: Response) -> Response:
        """Return an answer made of these files, which marks partial ones and deletes them once it was sent."""
        if self.folder is None or self.included is None:
            return answer
        answer.headers[PARTIAL_HEADER] = self.included
        answer.headers["Cache-Control"] = "no-store"
        return _ThenDelete(answer, self.folder)

    def delete(self) -> None:
        """Delete the files, if they were made for one answer."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def partial_results(services: Services, sweep_id: str) -> FoundResults:
    """Put the results of a sweep's completed cells together in a folder of their own; it may take its time."""
    from jobs.results.partial import write_partial  # here, since scipy comes with it

    sweep = services.store.get_sweep(sweep_id)
    if sweep.expired_at is not None:
        raise NotFound(f"the results of sweep {sweep_id} have expired; send the sweep again to compute them anew")
    folder = Path(tempfile.mkdtemp(prefix="ampsweep-partial-"))
    try:
        found = write_partial(services.store, services.results, sweep, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    included = f"{found.cells.included}/{found.cells.total}"
    return FoundResults(sweep=found.sweep, results=found.results, folder=folder, included=included)


class _ThenDelete(Response):
    """Sends another answer, then deletes a folder, also where the client has hung up."""

    def __init__(self, answer: Response, folder: Path) -> None:
        super().__init__(status_code=answer.status_code)
        self.raw_headers = answer.raw_headers
        self._answer = answer
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
