"""Processes and their descendants, as the kernel reports them."""

from __future__ import annotations

from pathlib import Path

Process = tuple[int, str]
"""A process id and its start time, which together are never given twice."""


def descendants(root: int) -> set[Process]:
    """Return all processes below `root`, itself included."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if stat := _stat(int(folder.name)):
            parents.setdefault(int(stat[1]), []).append(int(folder.name))
    processes, pending = set[Process](), [root]
    while pending:
        pid = pending.pop()
        pending += parents.get(pid, [])
        if stat := _stat(pid):
            processes.add((pid, stat[19]))
    return processes


def living(processes: set[Process]) -> set[Process]:
    """Return those that still run; a zombie, which only waits for its parent to look, does not."""
    return {(pid, start) for pid, start in processes if (stat := _stat(pid)) and stat[19] == start and stat[0] != "Z"}


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
