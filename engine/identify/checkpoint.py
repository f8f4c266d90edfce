"""A recording that goes on where it stopped: its sums so far, in one file that is written anew now and then."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.files import atomic_write

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Between two savings: what a recording that is stopped may lose."""

Arrays = Mapping[str, NDArray[Any]]
_IDENTITY = "identity"


class Checkpoint:
    """The file at `path`. It is there, whole, from the first saving until it is discarded."""

    def __init__(
        self, path: Path, *, identity: str, every: float = SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Save at most every so many seconds by the clock `now`.

        `identity` stands for all that the sums depend on: what was saved under another is not read.
        """
        self.path = path
        self.identity = identity
        self._every = every
        self._now = now
        self._saved_at = now()

    def read(self) -> Arrays | None:
        """Return what was saved last; None where that is nothing, something else's, or damaged."""
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return arrays if str(arrays.pop(_IDENTITY, "")) == self.identity else None

    def save_if_due(self, arrays: Callable[[], Arrays]) -> None:
        """Save `arrays()` if the last saving, or the start, is long enough ago."""
        if self._now() - self._saved_at < self._every:
            return
        whole: dict[str, Any] = {_IDENTITY: np.array(self.identity), **arrays()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, **whole)
        except OSError as error:  # a full disk, say: the recording itself needs no file
            log.warning("the recording goes on, but cannot be saved to %s: %s", self.path, error.strerror or error)
        self._saved_at = self._now()

    def discard(self) -> None:
        """Remove the file, if there is one: the recording has served its end."""
        self.path.unlink(missing_ok=True)
