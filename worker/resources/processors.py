"""The processors that this process may use, and how many threads each engine gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from worker.resources.control_groups import group_folders, number

THREADS = "OMP_NUM_THREADS"
"""The variable that sets how many threads PyTorch, vLLM and Numba use in one process."""


def available_processors() -> int:
    """Return how many processors this process may use: by its affinity, and by the quotas of its control groups."""
    return max(1, min(len(os.sched_getaffinity(0)), *_quotas()))


def engine_threads(processors: int, engines: int, environment: Mapping[str, str]) -> int:
    """Return how many threads each of several engines gets.

    Args:
        processors: The number of processors.
        engines: The number of engines that share them.
        environment: Its `OMP_NUM_THREADS`, if that is a positive number, is what each engine gets.
    """
    wanted = environment.get(THREADS, "").strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return max(1, processors // max(1, engines))


def _quotas() -> Iterator[int]:
    """Yield the quotas in processors, rounded down; at least one, which is no limit."""
    yield os.cpu_count() or 1
    for folder in group_folders("cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()  # version 2
        except (OSError, ValueError):
            quota, period = str(number(folder / "cpu.cfs_quota_us")), str(number(folder / "cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # neither "max" nor -1, which set no limit
            yield int(quota) // int(period)
