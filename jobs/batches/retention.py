"""Deletes files and batches that have expired, and what crashes left behind in their storage."""

from __future__ import annotations

import logging

from ampsweep.errors import NotFound
from jobs.batches.files import BatchFiles
from jobs.store.sql.batches import Batches

log = logging.getLogger(__name__)


def clean_up_batches(
    batches: Batches, files: BatchFiles, *, now: float, unfinished_after: float, created_before: float | None = None
) -> int:
    """Delete the files and batches that are no longer needed. Safe to call at any time, also from several processes.

    Args:
        batches: The batches and their files.
        files: The content of the files.
        now: The current time, in seconds since 1970.
        unfinished_after: Delete files that the store does not know if they are older than this many seconds.
        created_before: Delete ended batches, and files that no running batch reads, that were created before this
            time; None keeps them until they expire themselves.

    Returns:
        The number of deleted files.
    """
    expired = batches.files.delete_expired(created_before=created_before)
    if created_before is not None:
        batches.delete_ended(created_before=created_before)
    for file_id in expired:
        files.delete(file_id)
    deleted = len(expired) + _delete_orphans(batches, files, now=now, min_age=unfinished_after)
    for batch_id in files.batch_ids() - batches.unfinished():
        files.delete_parts(batch_id)
    if deleted:
        log.info("%d files of batches were deleted", deleted)
    return deleted


def _delete_orphans(batches: Batches, files: BatchFiles, *, now: float, min_age: float) -> int:
    """Delete files that were published and never added to the store."""
    stored = files.ids()  # before the store is read, so that a file that is added meanwhile is known
    known = batches.files.known()
    deleted = 0
    for file_id in (file_id for file_id in stored if file_id not in known):
        try:
            if files.age(file_id, now) >= min_age:
                files.delete(file_id)
                deleted += 1
        except NotFound:  # another process has deleted it
            continue
    return deleted
