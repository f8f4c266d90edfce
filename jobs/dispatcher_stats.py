"""Counters of a dispatcher since its start; they never decrease."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobs.store.records import CellOutcome


@dataclass(kw_only=True)
class DispatcherStats:
    """Cells leased, and how they ended.

    `retried` counts leased cells that had been tried before, `late` writes discarded because their lease had expired,
    `expired` the leases that ran out, and `samples` the samples of completed cells.
    """

    leased: int = 0
    retried: int = 0
    late: int = 0
    expired: int = 0
    samples: int = 0
    outcomes: Counter[CellOutcome] = field(default_factory=Counter)
    finalized: int = 0
