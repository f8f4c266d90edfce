"""State of uploaded files and of batches, as the store returns and accepts it. Independent of the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class BatchState(StrEnum):
    """State of a batch, by the names of OpenAI's API. A batch that waits for a server is `validating`."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset({BatchState.COMPLETED, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLED})
"""States that a batch does not leave."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """An uploaded file, or the output of a batch. Times are in seconds since 1970.

    Attributes:
        owner: The id of the principal that uploaded it.
        purpose: `batch` of an uploaded file, `batch_output` of the output and the errors of a batch.
        bytes: Its size.
        expires_at: When it is deleted; None keeps it.
    """

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """Numbers of requests of a batch."""

    total: int
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """State of a batch. Times are in seconds since 1970.

    Attributes:
        owner: The id of the principal that created it.
        endpoint: The path that its requests are sent to, such as `/v1/completions`.
        epoch: Number of leases so far.
        expires_at: When requests that have not been answered are given up.
        times: When it entered each of its states, by the names of OpenAI's API (`in_progress_at`).
        output_expires_after: Seconds after which its output is deleted; None keeps it.
        error: Why the batch failed or, while it waits for a server, why it was last interrupted.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    state: BatchState
    epoch: int
    created_at: float
    expires_at: float
    counts: RowCounts
    times: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] | None = None
    output_expires_after: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchLease:
    """The right to run a batch until the lease expires. Epochs work as with the lease of a cell.

    Attributes:
        batch: The batch, as it was when it was leased.
        owner: The holder of the lease.
    """

    batch: BatchRecord
    owner: str

    @property
    def key(self) -> tuple[str, int]:
        """Id and epoch, which identify the lease."""
        return self.batch.id, self.batch.epoch
