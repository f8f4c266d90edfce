"""Disks that are unmounted under a running process: their mount points look like folders whose files were deleted."""

from __future__ import annotations

from pathlib import Path

from ampsweep.errors import Unavailable


class Mount:
    """The disk of a folder, as it was mounted when this object was made.

    Args:
        folder: The folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        path = folder.resolve()
        while not path.is_mount():
            path = path.parent
        self._point = path

    def check(self) -> None:
        """Check that the disk is still mounted. Call this before a file is written, or is taken for lost.

        Raises:
            Unavailable: It is not. What is written to its mount point would be hidden once the disk is back.
        """
        if not self._point.is_mount():
            raise Unavailable(f"the disk at {self._point} is no longer mounted; mount it again")
