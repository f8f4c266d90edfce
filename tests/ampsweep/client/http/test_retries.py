"""When a request is retried: by the error, the request, and the server's Retry-After."""

from __future__ import annotations

import time

import pytest

from ampsweep.client.http.errors import retry_after
from ampsweep.client.http.retries import Retries
from ampsweep.errors import (
    AmpsweepError,
    Conflict,
    ConnectionLost,
    EngineFailed,
    NoConnection,
    RateLimited,
    Unavailable,
)

RETRIES = Retries(times=4, first=0.5, longest=30.0)


def wait(error: AmpsweepError, *, attempt: int = 1, repeatable: bool = True, chance: float = 0.0) -> float | None:
    return RETRIES.wait(error, attempt=attempt, repeatable=repeatable, chance=chance)


def test_each_wait_doubles_and_up_to_half_of_it_is_jitter() -> None:
    assert [wait(NoConnection("no"), attempt=attempt) for attempt in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 4.0, None]
    assert [wait(NoConnection("no"), attempt=4, chance=chance) for chance in (0.5, 1.0)] == [3.0, 2.0]
    assert Retries(times=99).wait(NoConnection("no"), attempt=99, repeatable=True, chance=0.0) == 30.0


def test_retries_wait_at_least_for_retry_after() -> None:
    assert wait(RateLimited("slowly").after(7)) == 7.5
    assert wait(RateLimited("slowly").after(7), chance=1.0) == 7.25
    assert wait(RateLimited("slowly").after(31)) is None
    assert wait(Unavailable("starting")) == 2.5, "its class says when"


def test_requests_that_may_have_succeeded_are_retried_only_if_repeatable() -> None:
    assert wait(ConnectionLost("broke"), repeatable=True) == 0.5
    assert wait(ConnectionLost("broke"), repeatable=False) is None
    assert wait(NoConnection("no"), repeatable=False) == 0.5


@pytest.mark.parametrize("error", [EngineFailed("died"), Conflict("it has ended"), AmpsweepError("a bug")])
def test_requests_that_would_fail_again_are_not_retried(error: AmpsweepError) -> None:
    assert wait(error) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("17", 17),
        ("soon", None),
        ("-3", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("Thu, 01 Jan 99999999999 00:01:40 GMT", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: int | None) -> None:
    assert retry_after(header, now=60.0) == seconds


def test_a_date_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as tokyo:
        tokyo.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after("Thu, 01 Jan 1970 00:01:40 -0000", now=60.0) == 40
    time.tzset()
