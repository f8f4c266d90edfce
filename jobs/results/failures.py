"""Errors of ended sweeps: failed cells and failed samples, as the API reports them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.store.protocol import Store
from jobs.store.records import CellRecord, SweepRecord
from jobs.store.transitions import CellState, SweepState

COMPLETED_WITH_FAILURES = "completed_with_failures"
SWEEP_FAILED = "sweep_failed"


@dataclass(frozen=True, kw_only=True)
class SweepError:
    """Why the results of a sweep are incomplete: cells that failed, and samples that failed in completed cells.

    `first_reason` is the error of the first such cell in the order of the plan. It is None if the cells have been
    computed again since, or if it was not looked up.
    """

    code: str
    message: str
    failed_cells: int
    failed_samples: int
    first_reason: str | None = None


def errors_of(sweep: SweepRecord, first_reason: str | None = None) -> list[SweepError]:
    """Return one error if a sweep failed or completed with failures, otherwise an empty list."""
    if sweep.state not in (SweepState.COMPLETED, SweepState.FAILED):
        return []
    return errors_at_end(sweep, error=sweep.error, first_reason=first_reason)


def errors_at_end(sweep: SweepRecord, *, error: str | None, first_reason: str | None) -> list[SweepError]:
    """Return the errors that a sweep has once it has ended, from the counts of its cells, which are all done.

    Args:
        sweep: The sweep.
        error: Why the sweep failed; None if it completed.
        first_reason: The error of its first failing cell (`first_reason_in`).
    """
    counts = sweep.request_counts
    numbers = {"failed_cells": counts.failed, "failed_samples": sweep.failed_samples}
    if error is not None:
        return [SweepError(code=SWEEP_FAILED, message=error, first_reason=first_reason, **numbers)]
    if not (counts.failed or sweep.failed_samples):
        return []
    failures = []
    if counts.failed:
        failures.append(f"{counts.failed} of {counts.total} cells failed")
    if sweep.failed_samples:
        failures.append(f"{sweep.failed_samples} of {sweep.samples} samples failed")
    reason = "" if first_reason is None else f"; the first reason: {first_reason}"
    message = f"completed with failures: {' and '.join(failures)}{reason}"
    return [SweepError(code=COMPLETED_WITH_FAILURES, message=message, first_reason=first_reason, **numbers)]


def first_reason_in(cells: Iterable[CellRecord]) -> str | None:
    """Return the error of the first cell that failed or has failed samples; None if there is none."""
    failing = (cell for cell in cells if cell.state is CellState.FAILED or cell.failed_samples)
    return next((cell.error or cell.sample_error for cell in failing), None)


def find_errors(store: Store, sweeps: Sequence[SweepRecord]) -> list[list[SweepError]]:
    """Return the errors of each sweep; look up all first reasons in one query, if there are errors."""
    incomplete = [sweep.id for sweep in sweeps if errors_of(sweep)]
    reasons = store.first_reasons(incomplete) if incomplete else {}
    return [errors_of(sweep, reasons.get(sweep.id)) for sweep in sweeps]
