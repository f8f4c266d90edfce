from __future__ import annotations

import logging

import pytest

from worker.repeated_warnings import RepeatedWarnings


def test_a_state_that_lasts_is_logged_at_its_start_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    warnings = RepeatedWarnings(logging.getLogger("worker.test"), now=lambda: now[0])
    for _ in range(70):
        warnings.warn("the disk is full")
        now[0] += 2.0
    assert [record.getMessage() for record in caplog.records] == ["the disk is full"] * 3
    warnings.warn("the disk is read-only")
    warnings.warn("the disk is read-only")
    assert [record.getMessage() for record in caplog.records[3:]] == ["the disk is read-only"]
    warnings.end()
    warnings.warn("the disk is read-only")
    assert len(caplog.records) == 5
