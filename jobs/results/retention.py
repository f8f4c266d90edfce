"""Deletes result files that the store no longer needs: expired results, and files that crashes left behind.

Only files of cells that the store knows are deleted; files of another database are left alone.
"""

from __future__ import annotations

import logging
import re

from jobs.results.writer import Results
from jobs.store.protocol import Store

log = logging.getLogger(__name__)

_CELL_FILE = re.compile(r"(cell_[0-9a-f]+)\.(\d+)\.parquet")


def tidy(
    store: Store,
    results: Results,
    *,
    unfinished_after: float,
    ended_before: float | None = None,
    events_before: float | None = None,
) -> int:
    """Delete what no sweep needs; return how many files that were.

    These are the results of sweeps that ended before a time, if one is given, with the cells that only they had; cells'
    files that the store was never told of, or not under an epoch that counts; and what was begun but not written to for
    `unfinished_after` seconds. A file that a living lease may be about to report stays. What the events of sweeps that
    ended before `events_before` tell of single cells goes too. Calling this at any time, also in several processes,
    does no harm.
    """
    dropped = results.drop_unfinished(older_than=unfinished_after)
    while ended_before is not None and (expired := store.expire_results(ended_before)):
        log.info("the results of %d sweeps have expired", len(expired))
    if events_before is not None and (pruned := store.prune_events(events_before)):
        log.info("%d events of cells of sweeps that have ended were deleted", pruned)
    dropped += _drop_sweep_files(store, results)
    dropped += _drop_orphans(store, results)
    if dropped:
        log.info("%d files that nothing needs were deleted", dropped)
    return dropped


def _drop_sweep_files(store: Store, results: Results) -> int:
    """Drop the files of sweeps that have expired, and those that a finalizer left whose lease had passed."""
    found = results.sweep_files()
    known = store.sweep_files(sorted({file.sweep_id for file in found}))
    dropped = 0
    for file in found:
        state, epoch = known.get(file.sweep_id), file.epoch or 0
        if state is None or epoch > state.epoch or (state.leased and epoch == state.epoch):
            continue
        if state.files is None or state.files.epoch != file.epoch:
            results.delete_sweep_file(file)
            dropped += 1
    return dropped


def _drop_orphans(store: Store, results: Results) -> int:
    found = [(match[1], int(match[2]), name) for name in results.cell_names() if (match := _CELL_FILE.fullmatch(name))]
    known = store.cell_files(sorted({cell_id for cell_id, _, _ in found}))
    dropped = 0
    for cell_id, epoch, name in found:
        state = known.get(cell_id)
        if state is None or name == state.file or epoch > state.epoch or (state.leased and epoch == state.epoch):
            continue
        results.delete_cell(name)
        dropped += 1
    return dropped
