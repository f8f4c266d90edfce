"""The uploaded files and the output of batches in the SQL store. Their content is in the storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ampsweep.errors import Conflict, NotFound
from jobs.batches.records import ENDED, FileRecord
from jobs.clock import Clock
from jobs.store.records import Page
from jobs.store.sql.database import Database
from jobs.store.sql.rows import Row
from jobs.store.sql.tables import batches, files

_COLUMN = files.c


class Files:
    """The files in a database. Methods may block; all raise Unavailable while it cannot be reached."""

    def __init__(self, database: Database, clock: Clock, new_id: Callable[[str], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def new_id(self) -> str:
        """Return an id for a file whose content is published before the file is added."""
        return self._new_id("file")

    def add(
        self, file_id: str, *, owner: str, filename: str, purpose: str, size: int, expires_after: float | None = None
    ) -> FileRecord:
        """Add a file whose content is published.

        Args:
            file_id: The id, from `new_id`.
            owner: Who uploads it.
            filename: Its name on the client.
            purpose: What it is for.
            size: Its size in bytes.
            expires_after: Seconds after which it is deleted; None keeps it.
        """
        with self._database.writing() as db:
            insert_file(
                db,
                file_id,
                owner=owner,
                filename=filename,
                purpose=purpose,
                size=size,
                now=self._clock.now(),
                expires_after=expires_after,
            )
        return self.get(file_id)

    def get(self, file_id: str) -> FileRecord:
        """Return a file; raise NotFound if none has this id."""
        with self._database.reading() as db:
            return file_record(file_row(db, file_id))

    def list(self, *, after: str | None = None, limit: int = 20, purpose: str | None = None) -> Page[FileRecord]:
        """Return a page of files, newest first; raise NotFound if `after` is not a file."""
        with self._database.reading() as db:
            query = sa.select(files).order_by(_COLUMN.seq.desc()).limit(limit + 1)
            if after is not None:
                query = query.where(_COLUMN.seq < file_row(db, after)["seq"])
            if purpose is not None:
                query = query.where(_COLUMN.purpose == purpose)
            rows = db.execute(query).mappings().all()
        return Page(data=tuple(map(file_record, rows[:limit])), has_more=len(rows) > limit)

    def delete(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            NotFound: None has this id.
            Conflict: A batch that has not ended reads it.
        """
        with self._database.writing() as db:
            row = file_row(db, file_id)
            is_read = sa.select(batches.c.id).where(batches.c.input_file_id == file_id, _UNFINISHED)
            if (batch_id := db.execute(is_read).scalars().first()) is not None:
                raise Conflict(
                    f"batch {batch_id} reads the file {file_id}; cancel the batch first, or wait for its end"
                )
            db.execute(sa.delete(files).where(_COLUMN.id == row["id"]))

    def delete_expired(self, *, created_before: float | None) -> Sequence[str]:
        """Delete the files that have expired, or are older than a time and read by no batch; return their ids."""
        is_due = _COLUMN.expires_at <= self._clock.now()
        if created_before is not None:
            is_due = sa.or_(is_due, _COLUMN.created_at < created_before)
        read = sa.select(batches.c.input_file_id).where(_UNFINISHED)
        due = sa.select(_COLUMN.id).where(is_due, _COLUMN.id.not_in(read))
        with self._database.reading() as db:
            ids = db.execute(due).scalars().all()
        if ids:
            with self._database.writing() as db:
                ids = db.execute(due).scalars().all()
                for file_id in ids:
                    db.execute(sa.delete(files).where(_COLUMN.id == file_id))
        return ids

    def known(self) -> frozenset[str]:
        """Return the ids of all files."""
        with self._database.reading() as db:
            return frozenset(db.execute(sa.select(_COLUMN.id)).scalars())


_UNFINISHED = batches.c.state.not_in(sorted(ENDED))


def insert_file(
    db: sa.Connection,
    file_id: str,
    *,
    owner: str,
    filename: str,
    purpose: str,
    size: int,
    now: float,
    expires_after: float | None,
) -> None:
    """Insert the row of a file in a write transaction."""
    expires_at = None if expires_after is None else now + expires_after
    identity = {"id": file_id, "owner": owner, "filename": filename, "purpose": purpose}
    db.execute(sa.insert(files).values(**identity, bytes=size, created_at=now, expires_at=expires_at))


def file_row(db: sa.Connection, file_id: str) -> Row:
    """Return the row of a file; raise NotFound if none has this id."""
    row = db.execute(sa.select(files).where(_COLUMN.id == file_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no file {file_id}; GET /v1/files lists them")
    return row


def file_record(row: Row) -> FileRecord:
    """Return the record of a row."""
    return FileRecord(**{name: row[name] for name in row if name != "seq"})
