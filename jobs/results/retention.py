"""Deletes result files that the store no longer needs: of expired and deleted sweeps, and what crashes left behind.

Only files of cells and sweeps that the store knows are deleted; files of another database are left alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from jobs.evaluation.records import UNFINISHED, EvaluationRecord, EvaluationState
from jobs.results.score_files import ScoreFileName
from jobs.results.writer import Results
from jobs.store.protocol import Store
from jobs.store.sql.evaluations import Evaluations

log = logging.getLogger(__name__)

_CELL_FILE = re.compile(r"(cell_[0-9a-f]+)\.(\d+)\.parquet")


def clean_up(
    store: Store,
    results: Results,
    *,
    evaluations: Evaluations | None = None,
    unfinished_after: float,
    ended_before: float | None = None,
    events_before: float | None = None,
) -> int:
    """Delete the files that no sweep needs.

    Deletes the results of expired and deleted sweeps with their evaluations and the cells that only they used, files
    that were never reported to the store or only under an outdated epoch, and unfinished files. A file that the holder
    of a valid lease may be about to report is kept. It is safe to call this at any time, also from several processes.

    Args:
        store: The store.
        results: The result files.
        evaluations: The evaluations of the sweeps; None leaves them and their scores alone.
        unfinished_after: Delete unfinished files that nobody wrote to for this many seconds.
        ended_before: Delete the results of sweeps that ended before this time, in seconds since 1970; None keeps all.
        events_before: Delete the events of single cells of sweeps that ended before this time; None keeps all.

    Returns:
        The number of deleted files.
    """
    deleted = results.drop_unfinished(older_than=unfinished_after)
    while ended_before is not None and (expired := store.expire_results(ended_before)):
        log.info("the results of %d sweeps have expired", len(expired))
    if erased := store.erase_deleted():
        log.info("%d deleted sweeps were erased", erased)
    if events_before is not None and (pruned := store.prune_events(events_before)):
        log.info("%d events of cells of ended sweeps were deleted", pruned)
    deleted += _delete_sweep_files(store, results)
    if evaluations is not None:
        deleted += _delete_scores(evaluations, results)
    deleted += _delete_orphans(store, results)
    if deleted:
        log.info("%d files that no sweep needs were deleted", deleted)
    return deleted


def _delete_sweep_files(store: Store, results: Results) -> int:
    """Delete the files of expired sweeps, and files that a finalizer wrote after its lease had expired."""
    files = results.sweep_files()
    states = store.sweep_files(sorted({file.sweep_id for file in files}))
    unneeded = []
    for file in files:
        state, epoch = states.get(file.sweep_id), file.epoch or 0
        if state is None or epoch > state.epoch or (state.leased and epoch == state.epoch):
            continue
        if state.files is None or state.files.epoch != file.epoch:
            unneeded.append(file)
    results.delete_sweep_files(unneeded)
    return len(unneeded)


def _delete_scores(evaluations: Evaluations, results: Results) -> int:
    """Delete the evaluations of expired sweeps, and the scores that no evaluation refers to or can still refer to."""
    evaluations.delete_expired()
    files = results.scores.names()
    scored = evaluations.of_sweeps(sorted({file.sweep_id for file in files}))
    unneeded = [file for file in files if file.sweep_id in scored and not _is_current(file, scored[file.sweep_id])]
    results.scores.delete(unneeded)
    return len(unneeded)


def _is_current(file: ScoreFileName, evaluations: Sequence[EvaluationRecord]) -> bool:
    return any(
        file.evaluation_id == evaluation.id
        and file.epoch == evaluation.epoch
        and (evaluation.state is EvaluationState.COMPLETED or evaluation.state in UNFINISHED)
        for evaluation in evaluations
    )


def _delete_orphans(store: Store, results: Results) -> int:
    """Delete files of cells that the store does not refer to, and that no valid lease can still report."""
    files = [(match[1], int(match[2]), name) for name in results.cell_names() if (match := _CELL_FILE.fullmatch(name))]
    states = store.cell_files(sorted({cell_id for cell_id, _, _ in files}))
    orphans = []
    for cell_id, epoch, name in files:
        state = states.get(cell_id)
        if state is None or name == state.file or epoch > state.epoch or (state.leased and epoch == state.epoch):
            continue
        orphans.append(name)
    results.delete_cells(orphans)
    return len(orphans)
