"""A stand-in for the HTTP layer: echoes each line of a batch, or does what the line says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest, Unavailable
from jobs.batches.rows import Row, RowResult


class StubRows:
    """Answers lines such as {"id": "a"}; `fails` and `waits` are how often an engine fails, or none is ready.

    While `gate` is not set, lines with `"held": true` are not answered. `invalid` is the status of a request that is
    invalid by itself.
    """

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.held = asyncio.Event()

    def parse(self, line: bytes, *, number: int, endpoint: str) -> Row:
        try:
            body = json.loads(line)
        except ValueError:
            error = InvalidRequest("not JSON", param="body")
            return Row(number=number, custom_id=None, endpoint=endpoint, error=error)
        row = Row(number=number, custom_id=body["id"], endpoint=endpoint)
        if "invalid" in body:
            return replace(row, result=RowResult(status=body["invalid"], body={"invalid": body["id"]}))
        return replace(row, request=body)

    async def answer(self, row: Row) -> RowResult:
        name = str(row.custom_id)
        self.answered[name] += 1
        if row.request.get("held") and not self.gate.is_set():
            self.held.set()
            await self.gate.wait()
        if self.answered[name] <= row.request.get("waits", 0):
            raise Unavailable("the engine starts")
        if self.answered[name] <= row.request.get("fails", 0):
            raise EngineFailed("the engine died")
        return RowResult(status=row.request.get("status", 200), body={"echo": name})

    def failure(self, error: AmpsweepError) -> RowResult:
        return RowResult(status=error.status, body={"error": error.code})
