"""Checks of a server's settings: its models, corpora, folders, port, results, database, access and Ray cluster."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from ampsweep.cli.server.settings import Settings
from ampsweep.errors import AmpsweepError, DamagedFile, InvalidRequest

GIB = 1024**3
CONNECT_SECONDS = 5.0
"""Timeout of the connection to a Ray cluster."""


def installation(settings: Settings) -> list[Finding]:
    """Run all checks of this module."""
    return [
        *models(settings),
        *corpora(settings),
        home(settings),
        disk(_nearest_folder(settings.home), shutil.disk_usage(_nearest_folder(settings.home)).free),
        results(settings),
        database(settings),
        port(settings),
        access(settings),
        ray_cluster(settings.ray_address),
    ]


def models(settings: Settings) -> list[Finding]:
    """Check that the files of each served model are complete and its config gives the shape that steering needs."""
    from ampsweep.folders.model import read_model_folder
    from ampsweep.folders.weights import check_weight_files

    findings = []
    for name, model in settings.served().items():
        try:
            shape = read_model_folder(model.path, name=name)
            if settings.engine != "fake":  # the fake engine reads no weights
                check_weight_files(model.path)
            findings.append(ok(f"model {name}", str(shape.widths)))
        except (AmpsweepError, OSError) as error:
            findings.append(
                bad(f"model {name}", str(error), f"fix the folder {model.path}, or remove the model from the settings")
            )
    return findings


def corpora(settings: Settings) -> list[Finding]:
    """Check that each corpus has text, and list its languages."""
    from ampsweep.folders.corpus import Corpus

    findings = []
    for name, folder in settings.all_corpora().items():
        try:
            languages = Corpus.open(folder, name=name).languages
            findings.append(ok(f"corpus {name}", ", ".join(languages)))
        except (AmpsweepError, OSError) as error:
            findings.append(
                bad(f"corpus {name}", str(error), f"fix the folder {folder}, or remove the corpus from the settings")
            )
    return findings


def home(settings: Settings) -> Finding:
    """Check that the home folder can be written to or created."""
    folder = settings.home
    if folder.exists() and not folder.is_dir():
        return bad("home", f"{folder} is a file", "name another folder with AMPSWEEP_HOME or --home")
    existing = _nearest_folder(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        return bad(
            "home", f"{existing} is not writable", f"give this user (id {os.getuid()}) permission to write to it"
        )
    if _is_held(folder / "ampsweep.db.lock"):
        remedy = "stop that server before you start another one, or name another folder with AMPSWEEP_HOME or --home"
        return note("home", f"{folder.resolve()} is in use by a running server", remedy)
    return ok("home", str(folder.resolve()))


def disk(folder: Path, free: int) -> Finding:
    """Check the free disk space, in bytes."""
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free < GIB:
        return bad("disk", detail, "free some space, or name another folder with AMPSWEEP_HOME or --home")
    return ok("disk", detail) if free >= 10 * GIB else note("disk", detail, "a large sweep may fill it")


def results(settings: Settings) -> Finding:
    """Write, read and delete a small file where results are stored."""
    from jobs.storage.factory import open_storage

    if settings.results is None:
        return ok("results", "in the home folder")
    try:
        open_storage(settings.results).check()
    except AmpsweepError as error:
        return bad("results", error.message, "fix AMPSWEEP_RESULTS, the bucket or the credentials")
    return ok("results", f"{settings.results} is writable")


def database(settings: Settings) -> Finding:
    """Check that the database answers. Changes nothing in it."""
    if settings.database_url is None:
        return ok("database", "a file in the home folder")
    import sqlalchemy as sa

    from jobs.store.sql.database import postgres_engine

    try:
        url = sa.make_url(settings.database_url)
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() != "postgresql":
            return bad("database", f"{url.get_backend_name()} is not supported", "use postgresql://USER@HOST/NAME")
        with postgres_engine(url).connect() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    except sa.exc.ArgumentError:
        return bad("database", "its URL cannot be parsed", "use postgresql://USER:PASSWORD@HOST/NAME")
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return bad("database", f"{shown}: {reason}", "start it, or fix AMPSWEEP_DATABASE_URL")
    return ok("database", f"{shown}, PostgreSQL {version}")


def port(settings: Settings) -> Finding:
    """Check that the port is free."""
    address = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family):
            return ok("port", f"{address} is free")
    except OSError as error:
        remedy = "stop the process that uses it, or choose another port with AMPSWEEP_PORT or --port"
        return bad("port", f"{address}: {error.strerror or error}", remedy)


def access(settings: Settings) -> Finding:
    """Check who can reach a server with these settings, and whether the settings protect it."""
    from ampsweep.cli.server.exposure import auth_policy
    from ampsweep.proxies import is_loopback
    from api.auth.api_keys import KeyFile

    try:
        auth_policy(settings)
        keys = sum(key.revoked_at is None for key in KeyFile(settings.key_file()).all())
    except InvalidRequest as error:
        return bad(
            "access", error.message, "see docs/security.md for what a server needs that other machines can reach"
        )
    except DamagedFile as error:
        return bad("access", error.message, f"restore {settings.key_file()} from a backup, or delete it")
    local = is_loopback(settings.host) and not settings.behind_tls_proxy
    return ok("access", f"from {'this machine' if local else 'other machines'}; valid API keys: {keys or 'none'}")


def ray_cluster(address: str | None) -> Finding:
    """Check that the head of a Ray cluster accepts connections and its token is readable."""
    if address is None:
        return ok("Ray", "started by the server")
    if os.environ.get("RAY_AUTH_MODE") == "token" and (path := os.environ.get("RAY_AUTH_TOKEN_PATH")):
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            return bad(
                "Ray",
                f"token file {path}: {error.strerror}",
                "make it readable for this user, or fix RAY_AUTH_TOKEN_PATH",
            )
        if not token:
            return bad("Ray", f"token file {path} is empty", "write the token of the cluster to it")
    parts = urlsplit(f"//{address}")
    try:
        host, number = parts.hostname, parts.port
    except ValueError:
        host = number = None
    if not host or not number:
        return bad("Ray", f"{address} is not HOST:PORT", "fix AMPSWEEP_RAY_ADDRESS")
    try:
        socket.create_connection((host, number), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return bad("Ray", f"{address}: {error.strerror or error}", "start the head: ray start --head --port=6379")
    return ok("Ray", f"{address} answers")


def _is_held(lock: Path) -> bool:
    """Return whether a process holds the lock file of a store. Does not create the file."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _nearest_folder(folder: Path) -> Path:
    """Return the folder itself or, if it does not exist, its nearest existing parent."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
