"""Warnings about a state that lasts, such as a full disk, which would otherwise fill the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_SECONDS = 60.0
"""Seconds after which the same warning is logged again."""


class RepeatedWarnings:
    """Logs warnings, the same one at most once in `every` seconds.

    Args:
        log: Where they are logged.
        every: Seconds after which the same warning is logged again.
        now: A monotonic clock, in seconds.
    """

    def __init__(
        self, log: logging.Logger, *, every: float = EVERY_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._every = every
        self._now = now
        self._last = ("", 0.0)

    def warn(self, text: str) -> None:
        """Log a warning, unless it is the last one and was logged a short time ago."""
        last, logged_at = self._last
        now = self._now()
        if text != last or now - logged_at >= self._every:
            self._last = (text, now)
            self._log.warning("%s", text)

    def end(self) -> None:
        """Log the next warning in any case, because the state has ended."""
        self._last = ("", 0.0)
