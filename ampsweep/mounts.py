"""Disks that are unmounted, and folders that are moved, under a running process: their files look as if deleted."""

from __future__ import annotations

from pathlib import Path

from ampsweep.errors import Unavailable


class Mount:
    """The disk of a folder as it was mounted when this object was made, and the folder that holds it.

    Args:
        folder: The folder, which need not exist, now or later: it is made again with its first file.
        holder: The folder that must stay, or its nearest parent that exists; by default the parent of `folder`.
    """

    def __init__(self, folder: Path, *, holder: Path | None = None) -> None:
        path = folder.resolve()
        while not path.is_mount():
            path = path.parent
        self._point = path
        self._holder = (folder.parent if holder is None else holder).absolute()
        while not self._holder.is_dir():
            self._holder = self._holder.parent

    def check(self) -> None:
        """Check that the disk and the holder are still there. Call this before a file is written, or is taken for lost.

        Raises:
            Unavailable: They are not. What is written to a mount point would be hidden once the disk is back, and a
                new folder would be in the way of the one that was moved.
        """
        if not self._point.is_mount():
            raise Unavailable(f"the disk at {self._point} is no longer mounted; mount it again")
        if not self._holder.is_dir():
            raise Unavailable(f"the folder {self._holder} was moved or deleted; put it back, or restart the server")
