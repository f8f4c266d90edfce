"""Keeps the folder of results to what the store knows: old results expire, and what crashes left behind goes.

Only files of cells that the store knows are touched: those of another database are not ours to delete.
"""

from __future__ import annotations

import logging
import re

from jobs.results import Results
from jobs.store.protocol import Store

log = logging.getLogger(__name__)

_CELL_FILE = re.compile(r"(cell_[0-9a-f]+)\.(\d+)\.parquet")


def tidy(store: Store, results: Results, *, unfinished_after: float, ended_before: float | None = None) -> int:
    """Delete what no sweep needs; return how many files that were.

    These are the results of sweeps that ended before a time, if one is given, with the cells that only they had; cells'
    files that the store was never told of, or not under an epoch that counts; and what was begun but not written to for
    `unfinished_after` seconds. A file that a living lease may be about to report stays. Calling this at any time, also
    in several processes, does no harm.
    """
    dropped = results.drop_unfinished(older_than=unfinished_after)
    while ended_before is not None and (expired := store.expire_results(ended_before)):
        log.info("the results of %d sweeps have expired", len(expired))
    dropped += _drop_expired(store, results)
    dropped += _drop_orphans(store, results)
    if dropped:
        log.info("%d files that nothing needs were deleted", dropped)
    return dropped


def _drop_expired(store: Store, results: Results) -> int:
    expired = [sweep_id for sweep_id in results.sweep_ids() if store.has_expired(sweep_id)]
    for sweep_id in expired:
        results.delete_sweep(sweep_id)
    return len(expired)


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
