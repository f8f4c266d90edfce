from __future__ import annotations

import asyncio
from itertools import count

import pytest

from benchmarks.timed_runs.rounds import ratio, time_rounds


def test_variants_alternate_on_new_work_and_the_warm_up_is_not_counted() -> None:
    numbers, ran = count(), list[tuple[str, int]]()

    async def quick(work: int) -> float:
        ran.append(("quick", work))
        return float(work)

    async def slow(work: int) -> float:
        ran.append(("slow", work))
        return 100.0 + work

    seconds = asyncio.run(time_rounds(lambda: next(numbers), {"quick": quick, "slow": slow}, rounds=2))
    assert ran == [("quick", 0), ("slow", 1), ("slow", 2), ("quick", 3), ("quick", 4), ("slow", 5)]
    assert seconds == {"quick": [3.0, 4.0], "slow": [102.0, 105.0]}


def test_a_variant_that_does_not_report_its_time_is_timed() -> None:
    async def silent(_work: None) -> None:
        await asyncio.sleep(0.01)

    seconds = asyncio.run(time_rounds(lambda: None, {"silent": silent}, rounds=1))
    assert seconds["silent"][0] >= 0.01


def test_without_a_warm_up_the_first_round_counts() -> None:
    numbers = count()

    async def one(work: int) -> float:
        return float(work)

    seconds = asyncio.run(time_rounds(lambda: next(numbers), {"one": one}, rounds=2, warm_up=False))
    assert seconds == {"one": [0.0, 1.0]}


def test_a_ratio_is_of_the_fastest_rounds_and_of_each() -> None:
    speed = ratio([1.0, 2.0, 4.0], [2.0, 3.0, 1.5])
    assert (speed.fastest, speed.median, speed.least, speed.largest) == (1.5, 1.5, 0.375, 2.0)
    with pytest.raises(ValueError, match="longer"):
        ratio([1.0], [1.0, 2.0])
