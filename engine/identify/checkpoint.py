"""Checkpoints of a recording: its sums so far, in one file that is replaced at intervals. Knows nothing of the sums."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.files import atomic_write, write_problem

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Interval between two checkpoints, which is the work that a stopped recording may lose."""

Arrays = Mapping[str, NDArray[Any]]
_IDENTITY = "identity"


class Checkpoint:
    """The checkpoint at `path`. From the first save until `discard`, the file exists and is complete."""

    def __init__(
        self, path: Path, *, identity: str, every: float = SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Save at most once in `every` seconds.

        Args:
            path: The file.
            identity: A hash of everything that the sums depend on. A file with another identity is ignored.
            every: Minimum interval between two saves, in seconds.
            now: The clock, in seconds.
        """
        self.path = path
        self.identity = identity
        self._every = every
        self._now = now
        self._saved_at = now()

    def read(self) -> Arrays | None:
        """Return the arrays saved last; None if there is no file, if it has another identity, or if it is damaged."""
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return arrays if str(arrays.pop(_IDENTITY, "")) == self.identity else None

    def save_if_due(self, arrays: Callable[[], Arrays]) -> None:
        """Save `arrays()` if the interval since the last save, or since the start, has passed."""
        if self._now() - self._saved_at < self._every:
            return
        whole: dict[str, Any] = {_IDENTITY: np.array(self.identity), **arrays()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, **whole)
        except OSError as error:  # a full disk, for example; the recording itself needs no file
            log.warning(
                "the checkpoint of the recording cannot be written to %s: %s; the recording continues without it",
                self.path,
                write_problem(error),
            )
        self._saved_at = self._now()

    def discard(self) -> None:
        """Remove the file if it exists, once the neuron set is saved."""
        self.path.unlink(missing_ok=True)
