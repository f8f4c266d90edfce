"""What a server answers, as frozen values. A newer server's extra fields are passed over, never refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

ENDED = frozenset({"completed", "failed", "cancelled"})
"""The statuses a sweep does not leave."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RequestCounts(_Reply):
    """Cells of a sweep: all of them, those done, those given up; of those done, how many were known before."""

    total: int
    completed: int
    failed: int
    reused: int = 0


class Sweep(_Reply):
    """A sweep as it stood when the server answered. Times are seconds since the epoch."""

    id: str
    name: str = ""
    status: str
    spec: dict[str, Any] = {}
    request_counts: RequestCounts
    created_at: float
    ended_at: float | None = None
    expired_at: float | None = None
    error: Any = None
    samples: int = 0
    priority: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class Event(_Reply):
    """Something that happened to a sweep; ids grow from 1."""

    id: int
    type: str
    data: dict[str, Any]


class Completion(_Reply):
    """A continued prompt, whole or, in a stream, its next piece; only the last piece has a `finish_reason`."""

    text: str
    finish_reason: str | None = None
