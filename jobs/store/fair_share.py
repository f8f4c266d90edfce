"""Fair sharing of cells between owners and sweeps. Pure functions.

Sweeps of higher priority come first. At equal priority, the next cell goes to the owner with the fewest running cells,
then to the owner that has waited longest; the sweep of that owner is chosen in the same way. A small sweep therefore
gets the next free slot beside a huge one, and an owner with many sweeps gets no more than an owner with one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_AFTER = 0.001
"""Seconds between two times of which the second is not that of the clock."""


@dataclass(frozen=True, kw_only=True)
class QueuedSweep:
    """An active sweep.

    Attributes:
        seq: Its order of creation.
        owner: Who submitted it.
        priority: Sweeps of higher priority get cells first.
        running: How many of its cells are leased.
        served_at: When one of its cells was last leased.
        pending: Whether it has cells to lease. The others only count as load of their owner.
    """

    seq: int
    owner: str
    priority: int
    running: int
    served_at: float
    pending: bool


def allocate(
    sweeps: Sequence[QueuedSweep], limit: int, pending_cells: Callable[[int, int], Sequence[str]]
) -> list[tuple[str, int]]:
    """Choose the cells to lease.

    Args:
        sweeps: All active sweeps.
        limit: How many cells to choose at most.
        pending_cells: Called with the `seq` of a sweep and a limit; returns the ids of the sweep's first pending cells.
            Called once per sweep, and only for sweeps that are chosen.

    Returns:
        Pairs of a cell's id and the `seq` of the sweep for which it was chosen. A cell that two sweeps need is chosen
        once.
    """
    running: dict[str, int] = defaultdict(int)
    served: dict[str, float] = defaultdict(float)
    queues: dict[int, dict[str, list[tuple[int, float, int]]]] = defaultdict(lambda: defaultdict(list))
    for sweep in sweeps:
        running[sweep.owner] += sweep.running
        served[sweep.owner] = max(served[sweep.owner], sweep.served_at)
        if sweep.pending:
            queues[sweep.priority][sweep.owner].append((sweep.running, sweep.served_at, sweep.seq))
    latest = max(served.values(), default=0.0)
    cells: dict[int, list[str]] = {}
    chosen: dict[str, int] = {}
    for priority in sorted(queues, reverse=True):
        owners = queues[priority]
        for heap in owners.values():
            heapq.heapify(heap)
        while owners and len(chosen) < limit:
            owner = min(owners, key=lambda name: (running[name], served[name], owners[name][0][2]))
            in_flight, _, seq = heapq.heappop(owners[owner])
            if seq not in cells:
                cells[seq] = list(reversed(pending_cells(seq, limit)))
            while cells[seq] and cells[seq][-1] in chosen:
                cells[seq].pop()
            if cells[seq]:
                chosen[cells[seq].pop()] = seq
                latest += 1.0
                running[owner] += 1
                served[owner] = latest
                heapq.heappush(owners[owner], (in_flight + 1, latest, seq))
            if not owners[owner]:
                del owners[owner]
    return list(chosen.items())


def next_turn(sweeps: Sequence[QueuedSweep], now: float) -> float:
    """Return the time to record for sweeps that are served now, which is no earlier than that of any other sweep.

    It is the current time, unless the clock was set back: then sweeps that were served before it was would wait for it.
    """
    latest = max((sweep.served_at for sweep in sweeps), default=0.0)
    return now if now >= latest else latest + _AFTER
