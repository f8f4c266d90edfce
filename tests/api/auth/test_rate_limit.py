from __future__ import annotations

import pytest

from ampsweep.errors import RateLimited
from api.auth.rate_limit import RateLimiter


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_one_minutes_requests_then_the_steady_rate() -> None:
    clock = Seconds()
    rate_limiter = RateLimiter(6, now=clock)
    for _ in range(6):
        rate_limiter.acquire("ada")
    with pytest.raises(RateLimited) as refused:
        rate_limiter.acquire("ada")
    assert refused.value.retry_after == 10
    clock.now += 9.0
    with pytest.raises(RateLimited) as refused:
        rate_limiter.acquire("ada")
    assert refused.value.retry_after == 1
    clock.now += 1.0
    rate_limiter.acquire("ada")
    with pytest.raises(RateLimited):
        rate_limiter.acquire("ada")


def test_each_caller_has_its_own_limit_and_unused_capacity_is_bounded() -> None:
    clock = Seconds()
    rate_limiter = RateLimiter(2, now=clock)
    clock.now += 10_000.0
    for who in ("ada", "bob"):
        rate_limiter.acquire(who)
        rate_limiter.acquire(who)
        with pytest.raises(RateLimited):
            rate_limiter.acquire(who)


def test_the_rate_holds_over_a_long_time() -> None:
    clock = Seconds()
    rate_limiter = RateLimiter(60, now=clock)
    authenticate = 0
    for _ in range(6000):
        clock.now += 0.1
        try:
            rate_limiter.acquire("ada")
        except RateLimited:
            continue
        authenticate += 1
    assert 600 <= authenticate <= 661


def test_none_means_unlimited() -> None:
    rate_limiter = RateLimiter(None)
    for _ in range(10_000):
        rate_limiter.acquire("ada")
