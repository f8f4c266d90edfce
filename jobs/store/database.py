"""A database with one writer at a time: opened, locked, migrated. Knows no table.

SQLite is one file that one process owns while it is open, by a lock on `<file>.lock` that ends with the process; with
the write-ahead log and synchronous=FULL what was committed survives a power cut, and reads never wait. PostgreSQL is
shared by any number of processes. On both, a writing transaction begins with the one lock of all writers (BEGIN
IMMEDIATE; an advisory lock that ends with the transaction), so writes happen one after another, what they commit is
seen in that order, and none fails half-way for another's sake.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event

from ampsweep.errors import DamagedFile, InvalidRequest, Unavailable
from ampsweep.hashing import canonical_json

MIGRATIONS = Path(__file__).parent / "migrations"
LOCKED_SECONDS = 20
"""How long a write waits while somebody else (a backup, say) has the database locked."""

_WRITE = {"ampsweep_write": True}
_WRITERS = 0x616D7073
"""The number of the advisory lock; any will do that no other application of the same database uses."""


class Database:
    """An open database. `sole_owner` is true where no other process can have it open."""

    def __init__(self, engine: sa.Engine, owned: OwnedFile | None) -> None:
        self._engine = engine
        self._owned = owned
        self._writing = Lock()  # threads queue here, where waiting is fair and holds no connection

    @property
    def sole_owner(self) -> bool:
        """Whether no other process can have it open."""
        return self._owned is not None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection to read with; Unavailable while the database cannot be reached."""
        with _told_as_unavailable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give the one writing transaction there is, and commit it on a clean exit.

        Raises Unavailable, with nothing written, while the database is locked by others, is full or cannot be reached.
        """
        with self._writing, _told_as_unavailable(), self._engine.connect() as plain:
            connection = plain.execution_options(**_WRITE)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Let go of it."""
        try:
            self._engine.dispose()
        finally:
            if self._owned is not None:
                self._owned.release()


class OwnedFile:
    """The right to use a file, for one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take it; Unavailable where another process has it."""
        lock = path.with_name(path.name + ".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        self._descriptor: int | None = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(
                f"{path} is in use by another process; stop that one first, or choose another file"
            ) from error

    def release(self) -> None:
        """Release the file. A second call does nothing: the descriptor may belong to another file by then."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_database(url: str) -> Database:
    """Open `sqlite:///PATH` or `postgresql://...`, and bring its tables to the newest revision.

    Raises InvalidRequest for any other database and for one in memory, Unavailable where it cannot be reached, another
    process has the file, or a newer version of ampsweep wrote it, DamagedFile where the file is no database.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InvalidRequest(_WANTED.format(url=url), param="database_url") from error
    if parsed.get_backend_name() == "postgresql":
        return Database(_open(postgres_engine(parsed)), None)
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or path in (None, "", ":memory:"):
        raise InvalidRequest(_WANTED.format(url=parsed.render_as_string()), param="database_url")
    assert path is not None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    owned = OwnedFile(Path(path))
    try:
        return Database(_open(sqlite_engine(parsed)), owned)
    except BaseException:
        owned.release()
        raise


def sqlite_engine(url: sa.URL) -> sa.Engine:
    """Return an engine whose transactions are SQLite's own."""
    engine = sa.create_engine(url, json_serializer=canonical_json)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def postgres_engine(url: sa.URL) -> sa.Engine:
    """Return an engine on PostgreSQL whose sessions end when their process stalls with the writers' lock."""
    limits = {"lock_timeout": f"{LOCKED_SECONDS}s", "idle_in_transaction_session_timeout": "10s"}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        json_serializer=canonical_json,
        pool_pre_ping=True,
        connect_args={
            "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
            "connect_timeout": 10,
        },
    )

    @event.listens_for(engine, "begin")
    def lock(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("ampsweep_write", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

    return engine


def migration_config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


_WANTED = "the store needs a file, as sqlite:///PATH, or a server, as postgresql://USER@HOST/NAME; got {url!r}"


def _open(engine: sa.Engine) -> sa.Engine:
    shown = engine.url.database
    try:
        with engine.connect().execution_options(**_WRITE) as connection:
            command.upgrade(migration_config(connection), "head")
            connection.commit()
    except CommandError as error:
        engine.dispose()
        raise Unavailable(f"{shown} was written by another version of ampsweep, newer than this: {error}") from error
    except sa.exc.DatabaseError as error:
        engine.dispose()
        if engine.dialect.name == "postgresql":
            raise Unavailable(f"the database {shown} cannot be used: {error.orig}", param="database_url") from error
        raise DamagedFile(f"{shown} cannot be opened as a database: {error.orig}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def _told_as_unavailable() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InternalError, sa.exc.TimeoutError) as error:
        reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise Unavailable(f"the database cannot be used now: {reason}") from error


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own, too late to lock
    timeout = f"busy_timeout={LOCKED_SECONDS * 1000}"
    for pragma in (timeout, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("ampsweep_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
