"""What a server here would be told: its models, folders, port, results, database and Ray cluster."""

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
SECONDS = 5.0


def installation(settings: Settings) -> list[Finding]:
    """Look at all of it."""
    return [
        *models(settings),
        *corpora(settings),
        home(settings),
        disk(_above(settings.home), shutil.disk_usage(_above(settings.home)).free),
        results(settings),
        database(settings),
        port(settings),
        access(settings),
        ray_cluster(settings.ray_address),
    ]


def models(settings: Settings) -> list[Finding]:
    """Look at each model on the list: whether its files are whole, and its config gives what steering needs."""
    from ampsweep.folders.model import read_model_folder
    from ampsweep.folders.weights import check_weight_files

    findings = []
    for name, model in settings.served().items():
        try:
            found = read_model_folder(model.path, name=name)
            if settings.engine != "fake":  # which reads no weights
                check_weight_files(model.path)
            findings.append(ok(f"model {name}", f"{found.layers} layers of {found.width} neurons"))
        except (AmpsweepError, OSError) as error:
            findings.append(bad(f"model {name}", str(error), f"fix the folder {model.path}, or take it off the list"))
    return findings


def corpora(settings: Settings) -> list[Finding]:
    """Look at each corpus on the list: whether there is text in it, and in which languages."""
    from ampsweep.folders.corpus import Corpus

    findings = []
    for name, folder in settings.all_corpora().items():
        try:
            languages = Corpus.open(folder, name=name).languages
            findings.append(ok(f"corpus {name}", ", ".join(languages)))
        except (AmpsweepError, OSError) as error:
            findings.append(bad(f"corpus {name}", str(error), f"fix the folder {folder}, or take it off the list"))
    return findings


def home(settings: Settings) -> Finding:
    """Look whether the home can be written to, or made."""
    folder = settings.home
    if folder.exists() and not folder.is_dir():
        return bad("home", f"{folder} is a file", "give another folder with AMPSWEEP_HOME or --home")
    at = _above(folder)
    if not os.access(at, os.W_OK | os.X_OK):
        return bad("home", f"{at} cannot be written to", f"let this user (id {os.getuid()}) write to it")
    if _is_held(folder / "ampsweep.db.lock"):
        remedy = "stop it before you start another here, or give another folder with AMPSWEEP_HOME or --home"
        return note("home", f"{folder.resolve()} is a running server's", remedy)
    return ok("home", str(folder.resolve()))


def disk(folder: Path, free: int) -> Finding:
    """Look at the room that is left."""
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free < GIB:
        return bad("disk", detail, "make room, or give another folder with AMPSWEEP_HOME or --home")
    return ok("disk", detail) if free >= 10 * GIB else note("disk", detail, "a large sweep may fill it")


def results(settings: Settings) -> Finding:
    """Publish, read and remove a small file where the results go."""
    from jobs.storage.factory import open_storage

    if settings.results is None:
        return ok("results", "in the home")
    try:
        open_storage(settings.results).check()
    except AmpsweepError as error:
        return bad("results", error.message, "fix AMPSWEEP_RESULTS, the bucket or the credentials")
    return ok("results", f"{settings.results} can be written to")


def database(settings: Settings) -> Finding:
    """Ask the database for one answer; nothing in it is changed."""
    if settings.database_url is None:
        return ok("database", "a file in the home")
    import sqlalchemy as sa

    from jobs.store.database import postgres_engine

    try:
        url = sa.make_url(settings.database_url)
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() != "postgresql":
            return bad("database", f"{url.get_backend_name()} is not served", "give postgresql://USER@HOST/NAME")
        with postgres_engine(url).connect() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    except sa.exc.ArgumentError:
        return bad("database", "its URL cannot be read", "give postgresql://USER:PASSWORD@HOST/NAME")
    except sa.exc.SQLAlchemyError as error:
        told = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return bad("database", f"{shown}: {told}", "start it, or fix AMPSWEEP_DATABASE_URL")
    return ok("database", f"{shown}, PostgreSQL {version}")


def port(settings: Settings) -> Finding:
    """Look whether the port is free."""
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family):
            return ok("port", f"{where} is free")
    except OSError as error:
        remedy = "stop what has it (a server that runs, perhaps), or choose another with AMPSWEEP_PORT or --port"
        return bad("port", f"{where}: {error.strerror or error}", remedy)


def access(settings: Settings) -> Finding:
    """Look who could reach a server with these settings, and whether one would be started with them."""
    from ampsweep.cli.server.exposure import auth_policy
    from ampsweep.proxies import is_loopback
    from api.auth.api_keys import KeyFile

    try:
        auth_policy(settings)
        keys = sum(key.revoked_at is None for key in KeyFile(settings.key_file()).all())
    except InvalidRequest as error:
        return bad("access", error.message, "docs/security.md says what a server asks for before it stands open")
    except DamagedFile as error:
        return bad("access", error.message, f"bring back {settings.key_file()} from a copy, or remove it")
    here = is_loopback(settings.host) and not settings.behind_tls_proxy
    return ok("access", f"from {'this machine' if here else 'other machines'}; valid API keys: {keys or 'none'}")


def ray_cluster(address: str | None) -> Finding:
    """Look whether the head of a Ray cluster answers, and its token is there."""
    if address is None:
        return ok("Ray", "one of its own")
    if os.environ.get("RAY_AUTH_MODE") == "token" and (path := os.environ.get("RAY_AUTH_TOKEN_PATH")):
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            return bad(
                "Ray", f"its token {path}: {error.strerror}", "let this user read it, or fix RAY_AUTH_TOKEN_PATH"
            )
        if not token:
            return bad("Ray", f"its token {path} is empty", "write the cluster's token into it")
    parts = urlsplit(f"//{address}")
    try:
        host, number = parts.hostname, parts.port
    except ValueError:
        host = number = None
    if not host or not number:
        return bad("Ray", f"{address} is no HOST:PORT", "fix AMPSWEEP_RAY_ADDRESS")
    try:
        socket.create_connection((host, number), timeout=SECONDS).close()
    except OSError as error:
        return bad("Ray", f"{address}: {error.strerror or error}", "start the head: ray start --head --port=6379")
    return ok("Ray", f"{address} answers")


def _is_held(lock: Path) -> bool:
    """Whether a process has the lock of a store; nothing is made where there is none."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _above(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    folder = folder.resolve()
    return next(at for at in (folder, *folder.parents) if at.is_dir())
