"""What a dispatcher has done since it began, in numbers that only grow: for those who watch it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobs.store.records import CellOutcome


@dataclass(kw_only=True)
class DispatcherStats:
    """Cells leased, `retried` among them those that had been tried before; how they ended.

    `late` are writes under a lease that had passed, of which nothing was kept; `expired` the leases that ran out;
    `samples` those of completed cells.
    """

    leased: int = 0
    retried: int = 0
    late: int = 0
    expired: int = 0
    samples: int = 0
    endings: Counter[CellOutcome] = field(default_factory=Counter)
    finalized: int = 0
