"""Runs the rows of a batch, publishes their results in parts, and assembles the output."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any

from ampsweep.concurrency import in_window, task_group
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest, Unavailable
from jobs.batches.files import PART_ROWS, BatchFiles
from jobs.batches.records import BatchRecord, RowCounts
from jobs.batches.rows import Row, RowAnswers, RowResult

ROWS_AT_ONCE = 256
"""Maximum number of rows of a batch in flight; the engine batches them."""
PARTS_AT_ONCE = 8
"""Maximum number of parts with rows in flight: more than ROWS_AT_ONCE rows, so that a slow row delays no other part."""
MAX_ATTEMPTS = 3
"""Maximum number of times that a row is sent if engines fail on it."""
RETRY_SECONDS = 5.0
"""Delay in seconds before a row is sent again because no engine was ready."""
MAX_WAITS = 12
"""How often a row waits for an engine before the batch is given back, if no other row is being answered meanwhile."""

Sleep = Callable[[float], Awaitable[None]]
Report = Callable[[RowCounts], Awaitable[None]]
_END = object()


async def run_rows(batch: BatchRecord, *, files: BatchFiles, answers: RowAnswers, report: Report, sleep: Sleep) -> None:
    """Answer the rows of a batch whose results have not been published. Cancelling the call aborts them.

    Args:
        batch: The batch.
        files: The files of batches.
        answers: Answers the rows.
        report: Called with the counts at the beginning and whenever further results have been published.
        sleep: Waits before a row is sent again.

    Raises:
        NotFound: The input file of the batch does not exist.
        Unavailable: All rows in flight wait for an engine, and have waited for about a minute.
    """
    counts = await asyncio.to_thread(counts_of, batch, files)
    await report(counts)
    published = frozenset(await asyncio.to_thread(files.parts, batch.id))
    window, rows_window = asyncio.Semaphore(PARTS_AT_ONCE), asyncio.Semaphore(ROWS_AT_ONCE)
    sender = _Sender(answers, sleep)

    async def result_of(row: Row) -> dict[str, Any]:
        return await _result(batch, row, sender)

    async def run_part(number: int, rows: Sequence[Row]) -> None:
        nonlocal counts
        results = await in_window(rows, result_of, window=rows_window)
        await asyncio.to_thread(files.save_part, batch.id, number, results)
        succeeded = sum(result["succeeded"] for result in results)
        failed = counts.failed + len(results) - succeeded
        counts = replace(counts, completed=counts.completed + succeeded, failed=failed)
        await report(counts)

    parts = _parts(batch, files, answers)
    async with task_group() as group:
        while isinstance(part := await asyncio.to_thread(next, parts, _END), tuple):
            number, rows = part
            if number not in published:
                await window.acquire()
                group.create_task(run_part(number, rows)).add_done_callback(lambda _: window.release())


def counts_of(batch: BatchRecord, files: BatchFiles) -> RowCounts:
    """Return the counts of a batch according to its published results."""
    succeeded = [row["succeeded"] for number in files.parts(batch.id) for row in files.part(batch.id, number)]
    return replace(batch.counts, completed=sum(succeeded), failed=len(succeeded) - sum(succeeded))


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """The counts of a batch whose results are published, and the sizes of the files in bytes.

    `expired` is the number of rows that were not answered before the batch expired. `counts` includes them as failed.
    """

    counts: RowCounts
    expired: int
    output_size: int
    error_size: int


def assemble(
    batch: BatchRecord, files: BatchFiles, answers: RowAnswers, *, output_id: str, error_id: str, cancelled: bool
) -> Assembled:
    """Publish the output and the errors of a batch.

    Args:
        batch: The batch.
        files: The files of batches.
        answers: Reads the rows that were not answered.
        output_id: Id of the file of answers.
        error_id: Id of the file of errors.
        cancelled: Whether rows that were not answered are left out; otherwise they have expired, and are errors.
    """
    numbers = sorted(files.parts(batch.id))

    def rows(*, succeeded: bool) -> Iterator[dict[str, Any]]:
        for number in numbers:
            for row in files.part(batch.id, number):
                if row["succeeded"] is succeeded:
                    yield row["line"]

    counts = counts_of(batch, files)
    expired = 0 if cancelled else batch.counts.total - counts.completed - counts.failed
    missing = _unanswered(batch, files, answers, frozenset(numbers)) if expired else ()
    return Assembled(
        counts=replace(counts, failed=counts.failed + expired),
        expired=expired,
        output_size=files.write(output_id, rows(succeeded=True)),
        error_size=files.write(error_id, chain(rows(succeeded=False), missing)),
    )


def _unanswered(
    batch: BatchRecord, files: BatchFiles, answers: RowAnswers, published: frozenset[int]
) -> Iterator[dict[str, Any]]:
    error = {"code": "batch_expired", "message": "the batch expired before the request was answered; send it again"}
    for number, rows in _parts(batch, files, answers):
        if number not in published:
            yield from (_line(batch, row, None, error)["line"] for row in rows)


def _parts(batch: BatchRecord, files: BatchFiles, answers: RowAnswers) -> Iterator[tuple[int, list[Row]]]:
    """Yield the rows of a batch in parts, numbered from 0. A repeated custom_id is an error of the later row."""
    custom_ids: set[str] = set()

    def checked(row: Row) -> Row:
        if row.error is None and row.custom_id in custom_ids:
            message = f"another request of the batch has the custom_id {row.custom_id!r}; give each its own"
            return replace(row, request=None, error=InvalidRequest(message, param="custom_id"))
        if row.custom_id is not None:
            custom_ids.add(row.custom_id)
        return row

    lines = enumerate(files.lines(batch.input_file_id), 1)
    rows = (checked(answers.parse(line, number=number, endpoint=batch.endpoint)) for number, line in lines)
    for part_number in count():
        part = list(islice(rows, PART_ROWS))
        if not part:
            return
        yield part_number, part


async def _result(batch: BatchRecord, row: Row, sender: _Sender) -> dict[str, Any]:
    """Return the result of a row in the form that parts store."""
    if row.error is not None:
        error = {"code": row.error.code, "message": row.error.message, "param": row.error.param}
        return _line(batch, row, None, error)
    return _line(batch, row, await sender.send(row) if row.result is None else row.result, None)


class _Sender:
    """Sends the rows of a batch to the engines, and counts those that wait for one."""

    def __init__(self, answers: RowAnswers, sleep: Sleep) -> None:
        self._answers = answers
        self._sleep = sleep
        self._in_flight = 0
        self._waiting = 0

    async def send(self, row: Row) -> RowResult:
        """Answer a row. It waits for an engine, and is sent again if the engine fails.

        Raises:
            Unavailable: The row has waited MAX_WAITS times, and all others in flight are waiting too.
        """
        self._in_flight += 1
        try:
            return await self._answer(row)
        finally:
            self._in_flight -= 1

    async def _answer(self, row: Row) -> RowResult:
        failure: AmpsweepError | None = None
        for _ in range(MAX_ATTEMPTS):
            try:
                return await self._answer_once_available(row)
            except EngineFailed as error:
                failure = error
        assert failure is not None
        return self._answers.failure(failure)

    async def _answer_once_available(self, row: Row) -> RowResult:
        waits = 0
        while True:
            try:
                return await self._answers.answer(row)
            except Unavailable:
                if waits >= MAX_WAITS and self._waiting == self._in_flight - 1:
                    raise
            waits += 1
            await self._wait()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            await self._sleep(RETRY_SECONDS)
        finally:
            self._waiting -= 1


def _line(batch: BatchRecord, row: Row, result: RowResult | None, error: dict[str, Any] | None) -> dict[str, Any]:
    request_id = f"{batch.id}_{row.number}"
    response = result and {"status_code": result.status, "request_id": request_id, "body": result.body}
    line = {"id": request_id, "custom_id": row.custom_id, "response": response, "error": error}
    return {"succeeded": result is not None and result.succeeded, "line": line}
