"""A PostgreSQL server for the tests, from the installed binaries, in its own folder, on a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.clock import Clock
from jobs.store.sql.store import SqlStore, random_id

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "''"}


@contextmanager
def postgres_server(**settings: str) -> Iterator[str]:
    """Run a server and give the URL of its database; the test is skipped where no server can be run."""
    initdb, pg_ctl = _installed("initdb"), _installed("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="ampsweep-pg-"))
    as_user = _unprivileged(folder)
    data, log = folder / "data", folder / "log"
    try:
        _run([*as_user, initdb, "-D", str(data), "-U", "ampsweep", "--auth", "trust", "--no-sync"])
        chosen = {**_FAST, "unix_socket_directories": str(folder), **settings}
        options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
        _run([*as_user, pg_ctl, "-D", str(data), "-l", str(log), "-o", options, "-w", "start"])
        try:
            yield f"postgresql://ampsweep@/postgres?host={folder}"
        finally:
            _run([*as_user, pg_ctl, "-D", str(data), "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty_store(url: str, clock: Clock, new_id: Callable[[str], str] = random_id) -> SqlStore:
    """Open the store on a server's database, without what earlier tests left in it."""
    store = SqlStore(url, clock, new_id)
    with store._database.writing() as db:
        tables = "sweeps, sweep_tags, cells, sweep_cells, events, evaluations, ratings, batches, files"
        db.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY"))
    return store


def _installed(name: str) -> str:
    """Return where a program of PostgreSQL is: on the PATH, or where Debian puts it."""
    candidates = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))]
    for path in filter(None, candidates):
        return path
    pytest.skip(f"PostgreSQL's {name} is not here; apt-get install postgresql")


def _unprivileged(folder: Path) -> list[str]:
    """Return what runs a command as somebody who may run a server: not as root."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            return ["setpriv", "--reuid", name, "--regid", str(user.pw_gid), "--clear-groups", "--"]
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command} failed: {done.stderr}"
