"""Rows of a batch: its requests as they are read from a file, their results, and who answers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ampsweep.errors import AmpsweepError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request of a batch.

    Attributes:
        number: The number of the line, from 1, blank lines not counted.
        custom_id: The name that the user gave it; None if the line has none.
        endpoint: The path that it is sent to.
        body: Its JSON body.
        error: Why the line is no request; it is not sent then.
    """

    number: int
    custom_id: str | None
    endpoint: str
    body: Mapping[str, Any]
    error: AmpsweepError | None = None


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """The response to a request: the status and the JSON body that its endpoint would have sent."""

    status: int
    body: Mapping[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200


class RowAnswers(Protocol):
    """Reads and answers the requests of batches. The HTTP layer implements it."""

    def parse(self, line: bytes, *, number: int, endpoint: str) -> Row:
        """Return the request of a line of a batch for `endpoint`; one with an `error` if the line is malformed."""
        ...

    async def answer(self, row: Row) -> RowResult:
        """Answer a request with the priority of sweeps; return an error of the request as a result.

        Raises:
            Unavailable: The engine cannot answer now.
            EngineFailed: The engine failed; the request may be the reason.
        """
        ...

    def failure(self, error: AmpsweepError) -> RowResult:
        """Return the result of a request that failed with an error."""
        ...
