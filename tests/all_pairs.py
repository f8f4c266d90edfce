"""Draws few combinations of choices in which every two choices that go together are together once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from random import Random

Chosen = dict[str, str]
"""The name of a choice by that of its dimension."""
Pair = frozenset[tuple[str, str]]

_TRIES = 40
_CANDIDATES = 12


def all_pairs(
    dimensions: Mapping[str, Sequence[str]], goes_together: Callable[[Chosen], bool], *, seed: int
) -> list[Chosen]:
    """Return combinations that have every pair of choices of two dimensions.

    A pair is left out if none of 40 random combinations with it goes together.

    Args:
        dimensions: The choices of each dimension.
        goes_together: Whether a combination is valid.
        seed: Seed of the draws: other seeds give other combinations with the same pairs.
    """
    random = Random(seed)
    wanted = {
        frozenset({(first, one), (second, other)})
        for first, second in combinations(dimensions, 2)
        for one in dimensions[first]
        for other in dimensions[second]
    }
    drawn: list[Chosen] = []
    pairs = sorted(wanted, key=sorted)  # a set has another order in each process
    random.shuffle(pairs)
    for pair in pairs:
        if pair not in wanted:
            continue
        candidates = [draw for _ in range(_TRIES) if goes_together(draw := _draw(dimensions, pair, random))]
        if not candidates:
            wanted.discard(pair)
            continue
        best = max(candidates[:_CANDIDATES], key=lambda candidate: len(_pairs(candidate) & wanted))
        wanted -= _pairs(best)
        drawn.append(best)
    return drawn


def _draw(dimensions: Mapping[str, Sequence[str]], pair: Pair, random: Random) -> Chosen:
    return {name: random.choice(choices) for name, choices in dimensions.items()} | dict(pair)


def _pairs(chosen: Chosen) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(chosen.items(), 2)}
