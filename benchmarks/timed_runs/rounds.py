"""Times variants in alternation, so that other load on the machine affects all of them alike."""

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

    Attributes:
        fastest: Ratio of the fastest rounds of both. Other load on the machine only adds time.
        median: Median of the ratios within each round.
        least: Smallest of these ratios.
        largest: Largest of these ratios.
    """

    fastest: float
    median: float
    least: float
    largest: float


async def time_rounds(
    make: Callable[[], Work], variants: Variants[Work], *, rounds: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return the seconds that each variant took in each round. Every other round runs the variants in reverse order.

    Args:
        make: Makes the work of one run; every run gets new work of the same kind.
        variants: The variants by name. A variant may return the seconds it took; otherwise its run is timed.
        rounds: Number of rounds.
        warm_up: Whether to run a round first that is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name in sorted(variants, key=list(variants).index, reverse=bool(number % 2)):
            work = make()
            started = time.perf_counter()
            reported = await variants[name](work)
            if number:
                seconds[name].append(time.perf_counter() - started if reported is None else reported)
    return seconds


def ratio(variant: Sequence[float], base: Sequence[float]) -> Ratio:
    """Return the speed of a variant relative to a base, from the seconds of both in the same rounds."""
    ratios = [base_time / time_taken for time_taken, base_time in zip(variant, base, strict=True)]
    return Ratio(
        fastest=min(base) / min(variant), median=statistics.median(ratios), least=min(ratios), largest=max(ratios)
    )
