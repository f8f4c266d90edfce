"""The limits on the number of processes and threads: that of the user, and those of the control groups.

Linux counts threads as processes. `ulimit -u` sets the first for all processes of the user together, systemd, Slurm,
containers and Kubernetes set the others.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from worker.resources.control_groups import group_folders, number

MIN_PROCESSES = 1024
"""How many a server with an engine should be allowed; Ray starts more threads on a machine with more processors."""


@dataclass(frozen=True, kw_only=True)
class ProcessLimit:
    """A limit on the number of processes and threads, and how to raise it."""

    most: int
    remedy: str


def process_limit() -> ProcessLimit | None:
    """Return the smallest limit that applies to this process; None if there is none."""
    limits = [
        ProcessLimit(most=most, remedy=f"raise the limit of the container or job (pids.max) to {MIN_PROCESSES}")
        for folder in group_folders("pids")
        if (most := number(folder / "pids.max")) is not None
    ]
    of_user, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if of_user != resource.RLIM_INFINITY and os.geteuid() != 0:  # Linux does not apply it to root
        limits.append(ProcessLimit(most=of_user, remedy=f"raise it: ulimit -u {MIN_PROCESSES}"))
    return min(limits, key=lambda limit: limit.most, default=None)
