"""The control groups of this process, version 1 and 2, which systemd, Slurm and containers use to limit it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def group_folders(controller: str) -> tuple[Path, ...]:
    """Return the folders of the groups of this process: the root that it sees, and those its groups are nested in.

    Args:
        controller: The controller whose hierarchy counts in version 1, such as `memory`.
    """
    return tuple(dict.fromkeys(_folders(controller)))


def number(path: Path) -> int | None:
    """Return the number in a file of a group; None if there is no such file, or the word `max` in it."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _folders(controller: str) -> Iterator[Path]:
    yield from (CGROUPS, CGROUPS / controller)
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUPS if not controllers else CGROUPS / controller
        if not controllers or controller in controllers.split(","):
            inner = Path(path.lstrip("/"))
            yield from (root / group for group in (inner, *inner.parents))
