"""Rows of a batch: its requests as read from a file, their results, and the protocol that answers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ampsweep.errors import AmpsweepError


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """The response to a request: the status and the JSON body that its endpoint would have sent."""

    status: int
    body: Mapping[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request of a batch.

    Attributes:
        number: Number of the line, counted from 1 without blank lines.
        custom_id: The name that the user gave it; None if the line has none.
        endpoint: The path that the request is sent to.
        request: The request, in the form in which `RowAnswers.parse` leaves it for `RowAnswers.answer`.
        error: Why the line is malformed; such a row is not sent.
        result: The response to a request that is invalid whatever the engines do; such a row is not sent either.
    """

    number: int
    custom_id: str | None
    endpoint: str
    request: Any = None
    error: AmpsweepError | None = None
    result: RowResult | None = None


class RowAnswers(Protocol):
    """Reads and answers the requests of batches. The HTTP layer implements it."""

    def parse(self, line: bytes, *, number: int, endpoint: str) -> Row:
        """Return the request of a line of a batch for `endpoint`.

        If the line is malformed, the row has an `error`; if the request is invalid, its `result`. In both cases what
        the line holds is not kept, because it may take a multiple of the line's size. May block.
        """
        ...

    async def answer(self, row: Row) -> RowResult:
        """Answer a request with the priority of sweeps; return an error of the request as a result.

        Raises:
            Unavailable: The engine cannot answer now.
            EngineFailed: The engine failed, possibly because of the request.
        """
        ...

    def failure(self, error: AmpsweepError) -> RowResult:
        """Return the result of a request that failed with an error."""
        ...
