"""Errors of ended sweeps: failed cells and failed samples, as the API reports them."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.store.protocol import Store
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState

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
    counts = sweep.request_counts
    numbers = {"failed_cells": counts.failed, "failed_samples": sweep.failed_samples}
    if sweep.state is SweepState.FAILED:
        return [SweepError(code=SWEEP_FAILED, message=str(sweep.error), first_reason=first_reason, **numbers)]
    if sweep.state is not SweepState.COMPLETED or not (counts.failed or sweep.failed_samples):
        return []
    failures = []
    if counts.failed:
        failures.append(f"{counts.failed} of {counts.total} cells failed")
    if sweep.failed_samples:
        failures.append(f"{sweep.failed_samples} of {sweep.samples} samples failed")
    reason = "" if first_reason is None else f"; the first reason: {first_reason}"
    message = f"completed with failures: {' and '.join(failures)}{reason}"
    return [SweepError(code=COMPLETED_WITH_FAILURES, message=message, first_reason=first_reason, **numbers)]


def find_errors(store: Store, sweep: SweepRecord) -> list[SweepError]:
    """Return the errors of a sweep; look up the first reason among its cells."""
    if not errors_of(sweep):
        return []
    failing = store.list_cells(sweep.id, limit=1, only_failures=True).data
    return errors_of(sweep, next((cell.error or cell.sample_error for cell in failing), None))
