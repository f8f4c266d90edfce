"""Items are processed in order, in batches, in the thread of an executor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.identify import batches
from engine.identify.batches import in_batches, run_in


async def collect(executor: ThreadPoolExecutor, items: Iterator[int]) -> list[int]:
    """Return the doubles of the odd items."""
    return [result async for result in in_batches(run_in(executor), items, lambda item: 2 * item if item % 2 else None)]


def test_results_come_in_order_without_none() -> None:
    with ThreadPoolExecutor(max_workers=1) as executor:
        assert asyncio.run(collect(executor, iter(range(200)))) == [2 * item for item in range(1, 200, 2)]
        assert asyncio.run(collect(executor, iter(()))) == []


def test_a_batch_waits_until_the_results_of_the_previous_one_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_RESULTS", 4)
    monkeypatch.setattr(batches, "BATCH_SECONDS", 60.0)
    read: list[int] = []
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for item in range(20):
            read.append(item)
            threads.add(threading.get_ident())
            yield item

    async def check(executor: ThreadPoolExecutor) -> None:
        results = in_batches(run_in(executor), items(), lambda item: item)
        for item in range(4):
            assert await anext(results) == item
            assert len(read) == 4
        assert await anext(results) == 4
        assert len(read) == 8
        await results.aclose()

    with ThreadPoolExecutor(max_workers=1) as executor:
        asyncio.run(check(executor))
    assert threading.get_ident() not in threads


def test_an_error_of_the_work_is_raised() -> None:
    def fail(item: int) -> int:
        raise ValueError(f"item {item}")

    async def check(executor: ThreadPoolExecutor) -> None:
        async for _ in in_batches(run_in(executor), [7], fail):
            pass

    with ThreadPoolExecutor(max_workers=1) as executor, pytest.raises(ValueError, match="item 7"):
        asyncio.run(check(executor))
