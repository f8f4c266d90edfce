"""Opens, migrates and locks the database, so that there is one writer at a time. Knows no table.

An SQLite file belongs to the one process that has it open. The process holds a lock on `<file>.lock`, which the
operating system releases when the process ends. With the write-ahead log and synchronous=FULL, committed data survives
a power failure and readers never wait. A PostgreSQL database may be shared by any number of processes.

On both, a write transaction begins by taking a lock that all writers share: BEGIN IMMEDIATE on SQLite, a
transaction-level advisory lock on PostgreSQL. Writes are therefore serialized, become visible in the order of their
commits, and never fail because of a conflicting write.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event

from ampsweep.errors import DamagedFile, InvalidRequest, Unavailable
from ampsweep.hashing import canonical_json

if TYPE_CHECKING:
    from psycopg.abc import Buffer

DATABASE_FILE = "ampsweep.db"
"""The name of the SQLite file in a home folder."""
MIGRATIONS = Path(__file__).parent / "migrations"
LOCKED_SECONDS = 20
"""How long a write waits while another program (a backup, for example) holds a lock on the database."""

_WRITE = {"ampsweep_write": True}
_WRITER_LOCK = 0x616D7073
"""Key of the advisory lock. Arbitrary, but no other application on the same database may use it."""


@dataclass(frozen=True, slots=True)
class JsonText:
    """The value of a JSON column as its canonical JSON, for values that are serialized before a transaction begins."""

    text: str


class Database:
    """An open database with tables of the newest revision."""

    def __init__(self, engine: sa.Engine, lock: FileLock | None) -> None:
        self._engine = engine
        self._lock = lock
        self._file = None if lock is None else _OpenFile(Path(engine.url.database or ""))
        self._writers = Lock()  # threads wait here rather than in the database: no connection is held meanwhile

    @property
    def sole_owner(self) -> bool:
        """Whether no other process can have the database open."""
        return self._lock is not None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection for reading.

        Raises:
            Unavailable: The database cannot be reached.
            DamagedFile: The SQLite file was overwritten or damaged while it was open.
        """
        self._check_file()
        with _errors_of(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection in a write transaction, which a clean exit commits.

        Raises:
            Unavailable: Another program holds a lock, the disk is full or the database cannot be reached. Nothing was
                written.
            DamagedFile: The SQLite file was overwritten or damaged while it was open.
        """
        self._check_file()
        with self._writers, _errors_of(self._engine), self._engine.connect() as plain:
            connection = plain.execution_options(**_WRITE)
            with connection.begin():
                yield connection

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    def close(self) -> None:
        """Close all connections and release the lock on an SQLite file."""
        try:
            self._engine.dispose()
        finally:
            if self._lock is not None:
                self._lock.release()


class _OpenFile:
    """The SQLite file that is open, which another one may replace under its path.

    SQLite would go on in a file that was deleted or moved, and everything written from then on would be lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._now()

    def check(self) -> None:
        """Raise Unavailable unless the path is still that of the open file."""
        if self._now() != self._identity:
            raise Unavailable(
                f"the database {self._path} was moved, deleted or replaced, or its disk is not mounted; put the same "
                "file back, or restart the server to use what is there now"
            )

    def _now(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


class FileLock:
    """A lock on a file that one process can hold at a time. It ends with the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            Unavailable: Another process holds it.
            InvalidRequest: The file system has no locks.
        """
        lock_file = path.with_name(path.name + ".lock")
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        self._descriptor: int | None = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Unavailable(
                f"{path} is in use by another process; stop that process first, or use another folder "
                "(--home of `serve`, --out of `run`)"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise InvalidRequest(
                f"{path} cannot be locked: {error.strerror}; use a folder on a local disk, or PostgreSQL "
                "(--database-url)"
            ) from error

    def release(self) -> None:
        """Release the lock. A second call does nothing; the descriptor may belong to another file by then."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_database(url: str) -> Database:
    """Open a database and migrate its tables to the newest revision.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.

    Raises:
        InvalidRequest: The URL names another kind of database, or one in memory.
        Unavailable: The database cannot be reached, another process has the file open, or a newer version of ampsweep
            wrote it.
        DamagedFile: The file is not a database.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InvalidRequest(_UNSUPPORTED_URL.format(url=url), param="database_url") from error
    if parsed.get_backend_name() == "postgresql":
        return Database(_open(postgres_engine(parsed)), None)
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or path in (None, "", ":memory:"):
        raise InvalidRequest(_UNSUPPORTED_URL.format(url=parsed.render_as_string()), param="database_url")
    assert path is not None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(path))
    try:
        return Database(_open(sqlite_engine(parsed)), lock)
    except BaseException:
        lock.release()
        raise


def sqlite_engine(url: sa.URL) -> sa.Engine:
    """Return an SQLAlchemy engine for SQLite that begins its transactions itself, not through the driver."""
    engine = sa.create_engine(url, json_serializer=_serialize)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def postgres_engine(url: sa.URL) -> sa.Engine:
    """Return an SQLAlchemy engine for PostgreSQL.

    The server ends a transaction that has been idle for ten seconds, so that a process that stalls while it holds the
    writers' lock does not block the others. NUL characters, which PostgreSQL cannot store in a text, become U+FFFD.
    """
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        """Converts texts as psycopg does by default, without NUL."""

        def dump(self, obj: str) -> Buffer | None:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    limits = {"lock_timeout": f"{LOCKED_SECONDS}s", "idle_in_transaction_session_timeout": "10s"}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        json_serializer=_serialize,
        pool_pre_ping=True,
        connect_args={
            "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
            "connect_timeout": 10,
        },
    )

    @event.listens_for(engine, "connect")
    def convert(connection: Any, _record: object) -> None:
        connection.adapters.register_dumper(str, WithoutNul)

    @event.listens_for(engine, "begin")
    def lock(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("ampsweep_write", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    return engine


def _serialize(value: object) -> str:
    return value.text if isinstance(value, JsonText) else canonical_json(value)


def migration_config(connection: sa.Connection) -> Config:
    """Return the configuration of Alembic for an open connection."""
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def _newest_revision() -> str | None:
    """Return the revision that `head` stands for. Reading it executes all migration scripts."""
    return ScriptDirectory.from_config(_config()).get_current_head()


_UNSUPPORTED_URL = "unsupported database URL {url!r}; use sqlite:///PATH or postgresql://USER@HOST/NAME"


def _open(engine: sa.Engine) -> sa.Engine:
    name = engine.url.database
    try:
        with engine.connect().execution_options(**_WRITE) as connection:
            if MigrationContext.configure(connection).get_current_revision() != _newest_revision():
                command.upgrade(migration_config(connection), "head")
            connection.commit()
    except CommandError as error:
        engine.dispose()
        raise Unavailable(f"{name} was written by a newer version of ampsweep: {error}") from error
    except sa.exc.DatabaseError as error:
        engine.dispose()
        if engine.dialect.name == "postgresql":
            raise Unavailable(f"the database {name} cannot be used: {error.orig}", param="database_url") from error
        if isinstance(error, sa.exc.OperationalError):
            message = f"{name} cannot be opened as a database: {error.orig}"
            raise Unavailable(f"{message}{_remedy(Path(name or ''), error.orig)}") from error
        raise DamagedFile(f"{name} cannot be opened as a database: {error.orig}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def _errors_of(engine: sa.Engine) -> Iterator[None]:
    """Turn the database's errors in the block into Unavailable or DamagedFile, with the file and the remedy."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InternalError, sa.exc.TimeoutError) as error:
        reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        remedy = _remedy(Path(engine.url.database or ""), reason) if engine.dialect.name == "sqlite" else ""
        raise Unavailable(f"the database is temporarily unavailable: {reason}{remedy}") from error
    except sa.exc.DatabaseError as error:
        if type(error) is not sa.exc.DatabaseError or engine.dialect.name != "sqlite":
            raise  # a mistake in a statement, or a row that a constraint forbids
        raise DamagedFile(
            f"{engine.url.database} was overwritten or damaged while it was open ({error.orig}); stop the server, "
            "restore the file from a backup without the files -wal and -shm beside it, and start the server again"
        ) from error


def _remedy(path: Path, error: object) -> str:
    """Return what to do about an error of SQLite that will not pass by itself."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return f"; free some space on the disk of {path}"
    if name.startswith("SQLITE_READONLY"):
        return f"; make {path} and its folder writable again"
    return f"; check the disk of {path}" if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) else ""


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # otherwise the driver would begin transactions itself, too late to take the lock
    connection.create_function("lower", 1, _lower, deterministic=True)
    timeout = f"busy_timeout={LOCKED_SECONDS * 1000}"
    for pragma in (timeout, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _lower(text: str | None) -> str | None:
    """Return a text in lower case; SQLite's own function changes ASCII letters only."""
    return None if text is None else text.lower()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("ampsweep_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
