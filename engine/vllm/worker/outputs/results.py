"""What a worker computes for requests in addition to their outputs, and keeps until they have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

ResultKind = Literal["score", "recording", "capture"]


class WorkerResults(Protocol):
    """The results of one kind, by the keys that requests have for them in their `RequestExtras`."""

    def take(self, keys: Sequence[str]) -> Sequence[Any]:
        """Return the result of each key, and forget them."""
        ...

    def drop(self, key: str) -> None:
        """Forget a result that is not collected; do nothing if there is none."""
        ...
