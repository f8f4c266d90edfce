"""Fair sharing of cells between owners and sweeps. Pure functions.

Sweeps of higher priority come first. At equal priority, the next cell goes to the owner with the fewest running cells,
then to the one who has waited longest; the sweep of that owner is chosen in the same way. A small sweep therefore gets
the next free place beside a huge one, and an owner with many sweeps gets no more than an owner with one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A sweep that runs or waits. `place` is its order of creation; only of those that `wait` cells are leased."""

    place: int
    owner: str
    priority: int
    running: int
    served_at: float
    waits: bool


def allocate(
    sweeps: Sequence[Queued], limit: int, pending: Callable[[int, int], Sequence[str]]
) -> list[tuple[str, int]]:
    """Return up to `limit` cells to lease, each with the `place` of the sweep whose turn it was.

    `pending(place, limit)` gives the first cells of a sweep that can be leased; it is asked once, and only for sweeps
    whose turn comes. A cell that two sweeps need is chosen once.
    """
    running: dict[str, int] = defaultdict(int)
    served: dict[str, float] = defaultdict(float)
    queues: dict[int, dict[str, list[tuple[int, float, int]]]] = defaultdict(lambda: defaultdict(list))
    for sweep in sweeps:
        running[sweep.owner] += sweep.running
        served[sweep.owner] = max(served[sweep.owner], sweep.served_at)
        if sweep.waits:
            queues[sweep.priority][sweep.owner].append((sweep.running, sweep.served_at, sweep.place))
    turn = max(served.values(), default=0.0)
    cells: dict[int, list[str]] = {}
    chosen: dict[str, int] = {}
    for priority in sorted(queues, reverse=True):
        owners = queues[priority]
        for heap in owners.values():
            heapq.heapify(heap)
        while owners and len(chosen) < limit:
            owner = min(owners, key=lambda name: (running[name], served[name], owners[name][0][2]))
            in_flight, _, place = heapq.heappop(owners[owner])
            if place not in cells:
                cells[place] = list(reversed(pending(place, limit)))
            while cells[place] and cells[place][-1] in chosen:
                cells[place].pop()
            if cells[place]:
                chosen[cells[place].pop()] = place
                turn += 1.0
                running[owner] += 1
                served[owner] = turn
                heapq.heappush(owners[owner], (in_flight + 1, turn, place))
            if not owners[owner]:
                del owners[owner]
    return list(chosen.items())
