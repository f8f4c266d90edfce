"""Timing variants in turn, so that what a shared machine does to one it does to its neighbours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Work = TypeVar("Work")
Variants = Mapping[str, Callable[[Work], Awaitable[float | None]]]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How much faster one variant was than another.

    `fastest` is by the fastest round of each: what else a machine does only adds time. `median` is that of the rounds'
    own ratios, `least` and `largest` are among these.
    """

    fastest: float
    median: float
    least: float
    largest: float


async def time_rounds(
    make: Callable[[], Work], variants: Variants[Work], *, rounds: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return each variant's seconds in each round, after a round that is not counted if there is to be a `warm_up`.

    Every run has work of its own from `make`, all of the same kind. A variant may return the seconds it took; else
    they are taken here. Every other round goes through the variants backwards.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name in sorted(variants, key=list(variants).index, reverse=bool(number % 2)):
            work = make()
            started = time.perf_counter()
            own = await variants[name](work)
            if number:
                seconds[name].append(time.perf_counter() - started if own is None else own)
    return seconds


def ratio(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the speed of the first over that of the second, of seconds taken in the same rounds."""
    each = [other / own for own, other in zip(ours, others, strict=True)]
    return Ratio(fastest=min(others) / min(ours), median=statistics.median(each), least=min(each), largest=max(each))
