"""An SQLite file with one owner: opened, locked, migrated. Knows no table.

One process owns the file while it is open, by a lock on `<file>.lock` that ends with the process. Writes take the
database's write lock at their start (BEGIN IMMEDIATE), so none fails half-way for another's sake; with the write-ahead
log and synchronous=FULL what was committed survives a power cut, and reads never wait.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event

from ampsweep.canonical import canonical_json
from ampsweep.errors import DamagedFile, InvalidRequest, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
WRITE = {"ampsweep_write": True}
"""Execution options of a connection that writes."""


class OwnedFile:
    """The right to use a file, for one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take it; Unavailable where another process has it."""
        lock = path.with_name(path.name + ".lock")
        self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise Unavailable(
                f"{path} is in use by another process; stop that one first, or choose another file"
            ) from error

    def release(self) -> None:
        """Give it back."""
        os.close(self._descriptor)


def database_path(url: str) -> Path:
    """Return the file of an SQLite URL; InvalidRequest for any other database, and for one in memory."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise InvalidRequest(f"the store needs a file, as sqlite:///PATH; got {url!r}", param="database")
    assert parsed.database is not None
    return Path(parsed.database)


def open_engine(url: str) -> sa.Engine:
    """Return an engine whose transactions are SQLite's own, on a database that is migrated to the newest revision."""
    engine = sa.create_engine(url, json_serializer=canonical_json)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to the newest revision.

    Raises DamagedFile where the file is no database, Unavailable where a newer version of ampsweep wrote it.
    """
    try:
        with engine.connect().execution_options(**WRITE) as connection:
            command.upgrade(migration_config(connection), "head")
            connection.commit()
    except sa.exc.DatabaseError as error:
        raise DamagedFile(f"{engine.url.database} cannot be opened as a database: {error.orig}") from error
    except CommandError as error:
        message = f"{engine.url.database} was written by another version of ampsweep, newer than this: {error}"
        raise Unavailable(message) from error


def migration_config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own, too late to lock
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("ampsweep_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
