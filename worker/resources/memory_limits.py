"""The limits on the memory of this process: those of its control groups, version 1 and 2, and of its address space.

Systemd, Slurm and containers set the former, `ulimit -v` the latter. The smallest limit counts; groups are nested.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.resources.control_groups import group_folders, number

_UNLIMITED = 1 << 60
"""What version 1 gives as the limit of an unlimited group is close to 2**63."""


@dataclass(frozen=True, kw_only=True)
class MemoryLimit:
    """A limit on the memory of a group of processes, and how much of it is free, in bytes."""

    total: int
    free: int


def address_space() -> int | None:
    """Return the limit on the address space of this process and of those that it starts, in bytes; None for none."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def group_limits() -> Iterator[MemoryLimit]:
    """Yield the limits of the groups that this process is in, up to the root that it sees."""
    for folder in group_folders("memory"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            total, used = number(folder / limit), number(folder / usage)
            if total is not None and total < _UNLIMITED:
                free = total if used is None else total - used + _cache(folder)
                yield MemoryLimit(total=total, free=free)


def page_cache(stat: str) -> int:
    """Return the size of the page cache of a group in bytes, from the content of its `memory.stat`.

    The kernel frees the page cache when memory is needed, but the usage of a group includes it. After the files of a
    model have been read, the page cache can fill the group up to its limit.
    """
    fields = dict(line.split() for line in stat.splitlines())
    names = ("active_file", "inactive_file")
    if "total_inactive_file" in fields:  # version 1, whose other fields leave out the groups within
        names = ("total_active_file", "total_inactive_file")
    return sum(int(fields.get(name, 0)) for name in names)


def _cache(folder: Path) -> int:
    try:
        return page_cache((folder / "memory.stat").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
