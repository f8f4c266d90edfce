from __future__ import annotations

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import Unavailable
from jobs.batches.files import PART_ROWS, BatchFiles
from jobs.batches.records import BatchRecord, BatchState, RowCounts
from jobs.storage.local import LocalStorage
from tests.worker.batches.stub_rows import StubRows
from worker.batches.run_rows import MAX_ATTEMPTS, MAX_WAITS, RETRY_SECONDS, Assembled, assemble, run_rows

pytestmark = pytest.mark.anyio


class Run:
    """A batch of given lines, its files, and what was reported and slept."""

    def __init__(self, folder: Path, lines: list[Any]) -> None:
        self.files, self.rows = BatchFiles(LocalStorage(folder)), StubRows()
        text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        self.files.save("file_1", BytesIO(text.encode()))
        self.batch = BatchRecord(
            id="batch_1",
            owner="me",
            endpoint="/v1/completions",
            input_file_id="file_1",
            state=BatchState.IN_PROGRESS,
            epoch=1,
            created_at=0.0,
            expires_at=1.0,
            counts=RowCounts(total=len(lines)),
        )
        self.reports: list[RowCounts] = []
        self.slept: list[float] = []
        self.slept_often = asyncio.Event()

    async def run(self) -> None:
        await run_rows(self.batch, files=self.files, answers=self.rows, report=self._report, sleep=self._sleep)

    async def _report(self, counts: RowCounts) -> None:
        self.reports.append(counts)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > 2 * MAX_WAITS:
            self.slept_often.set()
        await asyncio.sleep(0)

    def assembled(self, *, cancelled: bool = False) -> tuple[Assembled, list[Any], list[Any]]:
        result = assemble(self.batch, self.files, self.rows, output_id="file_2", error_id="file_3", cancelled=cancelled)
        return result, self._read("file_2", result.output_size), self._read("file_3", result.error_size)

    def _read(self, file_id: str, size: int) -> list[Any]:
        return [json.loads(line) for line in self.files.lines(file_id)] if size else []


async def test_rows_are_answered_in_order_and_malformed_ones_fail_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": "a"}, "{", {"id": "b", "status": 400}, {"id": "c"}, {"id": "a"}])
    await run.run()
    result, output, errors = run.assembled()
    assert [(line["custom_id"], line["response"]["body"]) for line in output] == [
        ("a", {"echo": "a"}),
        ("c", {"echo": "c"}),
    ]
    assert output[1]["id"] == output[1]["response"]["request_id"] == "batch_1_4"
    malformed, refused, repeated = errors
    assert (malformed["custom_id"], malformed["response"], malformed["error"]["code"]) == (
        None,
        None,
        "invalid_request",
    )
    assert (refused["response"]["status_code"], refused["error"]) == (400, None)
    assert "give each its own" in repeated["error"]["message"]
    assert (result.counts, result.expired) == (RowCounts(total=5, completed=2, failed=3), 0)
    assert run.reports[-1] == result.counts
    assert run.rows.answered["a"] == 1


async def test_a_request_that_is_invalid_by_itself_is_not_sent(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": "a", "invalid": 400}, {"id": "b"}])
    await run.run()
    result, output, (refused,) = run.assembled()
    assert dict(run.rows.answered) == {"b": 1}
    assert [line["custom_id"] for line in output] == ["b"]
    assert refused["response"] == {"status_code": 400, "request_id": "batch_1_1", "body": {"invalid": "a"}}
    assert result.counts == RowCounts(total=2, completed=1, failed=1)


async def test_only_the_rows_of_missing_parts_are_sent_again(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": str(number)} for number in range(3 * PART_ROWS - 1)])
    await run.run()
    assert run.files.parts("batch_1") == [0, 1, 2]
    first = run.assembled()[1]
    run.rows.answered.clear()
    (tmp_path / "batch_1" / "000001").unlink()
    await run.run()
    assert set(run.rows.answered) == {str(number) for number in range(PART_ROWS, 2 * PART_ROWS)}
    assert run.assembled()[1] == first
    assert run.reports[-1].completed == 3 * PART_ROWS - 1


async def test_a_row_waits_for_an_engine_and_fails_after_several_failures_of_it(tmp_path: Path) -> None:
    rows = [{"id": "waits", "waits": 7}, {"id": "once", "fails": 1}, {"id": "always", "fails": 99}, {"id": "a"}]
    run = Run(tmp_path, rows)
    await run.run()
    _, output, errors = run.assembled()
    assert [line["custom_id"] for line in output] == ["waits", "once", "a"]
    assert run.slept == [RETRY_SECONDS] * 7
    (failed,) = errors
    assert (failed["custom_id"], failed["response"]["body"]) == ("always", {"error": "engine_failed"})
    assert run.rows.answered["always"] == MAX_ATTEMPTS


async def test_a_batch_is_given_back_if_all_its_rows_wait_for_an_engine(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": "a", "waits": 999}, {"id": "b", "waits": 999}])
    with pytest.raises(Unavailable, match="the engine starts"):
        await run.run()
    assert run.slept == [RETRY_SECONDS] * 2 * MAX_WAITS
    assert run.files.parts("batch_1") == []


async def test_a_batch_is_kept_while_one_of_its_rows_is_being_answered(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": "slow", "held": True}, {"id": "other model", "waits": 2 * MAX_WAITS + 1}])
    running = asyncio.create_task(run.run())
    await run.slept_often.wait()
    run.rows.gate.set()
    await running
    assert [line["custom_id"] for line in run.assembled()[1]] == ["slow", "other model"]


async def test_rows_without_an_answer_expire_or_are_left_out_of_a_cancelled_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, [{"id": str(number)} for number in range(PART_ROWS + 1)])
    await run.run()
    (tmp_path / "batch_1" / "000001").unlink()
    result, output, errors = run.assembled()
    assert (result.expired, len(output)) == (1, PART_ROWS)
    assert (errors[0]["custom_id"], errors[0]["error"]["code"]) == (str(PART_ROWS), "batch_expired")
    assert result.counts == RowCounts(total=PART_ROWS + 1, completed=PART_ROWS, failed=1)
    result, output, errors = run.assembled(cancelled=True)
    assert (result.expired, len(output), errors) == (0, PART_ROWS, [])
