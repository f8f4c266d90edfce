from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest, NotFound
from jobs.evaluation.records import LEASE, LOST, EvaluationRecords
from jobs.storage.factory import open_storage


class SetClock:
    """A clock that stands until it is set."""

    time = 100.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def records(tmp_path: Path, clock: SetClock) -> EvaluationRecords:
    return EvaluationRecords(open_storage(str(tmp_path)), clock)


def test_an_evaluation_from_start_to_end(records: EvaluationRecords, clock: SetClock) -> None:
    record = records.start("e", "sweep_1", {"metrics": ["lfs"]})
    assert records.get("sweep_1", "e") == record
    clock.time = 110.0
    records.complete(record, b"scores", [{"n": 3}], left_out=1)
    completed = records.get("sweep_1", "e")
    assert (completed.status, completed.created_at, completed.ended_at) == ("completed", 100.0, 110.0)
    assert (completed.groups, completed.left_out) == ([{"n": 3}], 1)
    assert records.scores_file(completed).read() == b"scores"


def test_without_heartbeats_an_evaluation_has_failed(records: EvaluationRecords, clock: SetClock) -> None:
    record = records.start("e", "sweep_1", {})
    clock.time += LEASE
    assert records.get("sweep_1", "e").status == "in_progress"
    records.beat(record)
    clock.time += LEASE
    assert records.get("sweep_1", "e").status == "in_progress"
    clock.time += 1
    lost = records.get("sweep_1", "e")
    assert (lost.status, lost.error, lost.ended_at) == ("failed", LOST, 160.0)


def test_the_evaluations_of_a_sweep_oldest_first(records: EvaluationRecords, clock: SetClock) -> None:
    second = records.start("b", "sweep_1", {})
    clock.time = 50.0
    first = records.start("c", "sweep_1", {})
    records.start("a", "sweep_2", {})
    records.fail(first, InvalidRequest("no text"))
    assert records.of_sweep("sweep_1") == [
        replace(first, status="failed", error="no text", ended_at=50.0),
        second,
    ]
    assert records.of_sweep("sweep_3") == []


def test_an_unknown_evaluation_is_not_found(records: EvaluationRecords) -> None:
    for sweep_id, evaluation_id in (("sweep_1", "e"), ("..", "e"), ("sweep_1", "../e")):
        with pytest.raises(NotFound, match="has no evaluation"):
            records.get(sweep_id, evaluation_id)
