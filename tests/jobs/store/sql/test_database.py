"""The database of the store: one owner of an SQLite file, migrations, durability."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from ampsweep.errors import DamagedFile, InvalidRequest, Unavailable
from jobs.store.sql.database import FileLock, migration_config, sqlite_engine
from jobs.store.sql.store import SqlStore
from jobs.store.sql.tables import sweeps
from tests.jobs.cluster import CountingIds, ManualClock, quick_sql_store
from tests.jobs.store.calls import send


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/er/store.db"


@pytest.mark.processes
def test_a_second_process_is_told_that_the_file_is_in_use(url: str, clock: ManualClock) -> None:
    store = SqlStore(url, clock, CountingIds())
    imports = "import sys; from pathlib import Path; from jobs.store.sql.database import FileLock"
    code = f"{imports}; FileLock(Path(sys.argv[1]))"
    path = url.removeprefix("sqlite:///")
    first = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "in use by another process" in first.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "nonsense"])
def test_only_sqlite_files_and_postgresql_are_supported(url: str, clock: ManualClock) -> None:
    with pytest.raises(InvalidRequest, match="sqlite:///PATH"):
        SqlStore(url, clock, CountingIds())


def test_a_file_that_is_not_a_database_is_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "notes.txt").write_text("These are notes, and no database at all. " * 30)
    for _ in range(2):  # the second time shows that the first one let go of the file
        with pytest.raises(DamagedFile, match="cannot be opened as a database"):
            SqlStore(f"sqlite:///{tmp_path}/notes.txt", clock, CountingIds())
    assert (tmp_path / "notes.txt").read_text().startswith("These are notes")


def test_a_database_of_a_newer_version_is_left_alone(url: str, clock: ManualClock) -> None:
    SqlStore(url, clock, CountingIds()).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(Unavailable, match="newer version"):
        SqlStore(url, clock, CountingIds())


def test_the_migrations_make_the_tables_that_the_code_uses(url: str, clock: ManualClock) -> None:
    SqlStore(url, clock, CountingIds()).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        command.check(migration_config(connection))  # raises where autogenerate would write a revision
    engine.dispose()


def test_a_missing_column_would_be_found_as_drift(url: str, clock: ManualClock) -> None:
    SqlStore(url, clock, CountingIds()).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sweeps DROP COLUMN error")
    with engine.connect() as connection, pytest.raises(CommandError, match="New upgrade operations"):
        command.check(migration_config(connection))
    engine.dispose()


def test_the_database_is_set_up_to_lose_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    engine = sqlite_engine(sa.make_url(url))
    with engine.connect() as db:
        values = [
            db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert values == ["wal", 2, 1]


def test_a_second_release_closes_no_other_file(tmp_path: Path) -> None:
    owned = FileLock(tmp_path / "ampsweep.db")
    owned.release()
    with (tmp_path / "other").open("w") as other:  # takes the descriptor that has become free
        owned.release()
        other.write("still open")
    assert (tmp_path / "other").read_text() == "still open"


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[SqlStore]:
    store = quick_sql_store(tmp_path / "home", clock)
    yield store
    store.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_is_no_longer_there_is_neither_read_nor_written(
    how: str, store: SqlStore, tmp_path: Path, clock: ManualClock
) -> None:
    sweep = send(store, 1)
    path, aside = tmp_path / "home" / "store.db", tmp_path / "aside.db"
    path.rename(aside)
    if how == "replaced":
        shutil.copy(aside, path)
    for use in (lambda: store.get_sweep(sweep.id), lambda: send(store, 1, start=7), store.expire_leases):
        with pytest.raises(Unavailable, match=f"{path} was moved, deleted or replaced.* put the same file back"):
            use()
    if how == "deleted":
        aside.unlink()
        return
    aside.rename(path)
    assert store.get_sweep(sweep.id) == sweep
    assert len(store.list_sweeps().data) == 1, "nothing was written meanwhile"


def test_a_full_disk_is_named_with_the_remedy(store: SqlStore, tmp_path: Path) -> None:
    with store._database.reading() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar()
        db.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Unavailable, match=f"disk is full; free some space on the disk of {tmp_path}/home/store.db"):
        send(store, 300)
    assert store.list_sweeps().data == ()
    with store._database.reading() as db:
        db.exec_driver_sql("PRAGMA max_page_count=100000")
    assert send(store, 300).request_counts.total == 300


def test_a_file_that_is_overwritten_while_it_is_open_is_damaged(store: SqlStore, tmp_path: Path) -> None:
    send(store, 300)
    store._database._engine.dispose()  # connections that are opened later read the file anew
    path = tmp_path / "home" / "store.db"
    path.write_bytes(b"These are notes, and no database at all. " * 200)
    with pytest.raises(DamagedFile, match=rf"{path} was overwritten or damaged.* restore the file from a backup"):
        store.list_sweeps()


def test_a_row_that_is_forbidden_is_a_mistake_and_no_damage(store: SqlStore) -> None:
    with pytest.raises(sa.exc.IntegrityError), store._database.writing() as db:
        db.execute(sa.insert(sweeps).values(id="a"))


def test_a_database_that_does_not_fit_on_the_disk_at_its_start_is_unavailable(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(url: sa.URL) -> sa.Engine:
        engine = sqlite_engine(url)
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=3"))
        return engine

    monkeypatch.setattr("jobs.store.sql.database.sqlite_engine", small)
    with pytest.raises(Unavailable, match=f"disk is full; free some space on the disk of {tmp_path}/a.db"):
        SqlStore(f"sqlite:///{tmp_path}/a.db", clock, CountingIds())


def test_a_disk_without_locks_is_not_taken_for_another_process(
    url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(
        InvalidRequest, match=r"store\.db cannot be locked: No locks available; use a folder on a local"
    ):
        SqlStore(url, clock, CountingIds())
