"""API keys: who may do what, in one file of the server's home.

A key is 256 random bits, shown once when it is made. The file keeps its SHA-256: there is nothing to guess in 256
random bits, so a slow hash would protect no better, and a key is checked at every request. The file is read again
whenever it has changed, so what the command line does holds at once, without a restart. It only grows: a revoked key
stays in it, marked, and with it the rule that this server asks for keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ampsweep.errors import Conflict, DamagedFile, InvalidRequest, NotFound
from ampsweep.files import atomic_write

_TOKEN = re.compile(r"amp_([0-9a-f]{12})_([0-9A-Za-z_-]{43})")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._@-]{0,63}")
_NOBODYS = "0" * 64


class KeyScope(StrEnum):
    """What a key opens: `read` what is there, `submit` what makes the engines work, `admin` all, of everyone."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as the file has it: everything but the key. Times are seconds since the epoch."""

    id: str
    name: str
    scopes: frozenset[KeyScope]
    sha256: str
    created_at: float
    revoked_at: float | None = None


_KEYS = TypeAdapter(list[ApiKey])


class KeyFile:
    """The keys in a file, which need not be there. Safe between threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def all(self) -> list[ApiKey]:
        """Return every key there ever was, oldest first; DamagedFile where the file cannot be read."""
        return list(self._read().values())

    def find(self, token: str) -> ApiKey | None:
        """Return the key that `token` is, unless there is none or it is revoked; DamagedFile as `all`.

        The comparison takes as long for a token that is wrong in its first letter as for one wrong in its last.
        """
        keys = self._read()
        parts = _TOKEN.fullmatch(token)
        key = keys.get(parts[1]) if parts else None
        same = hmac.compare_digest(_hash(token), _NOBODYS if key is None else key.sha256)
        return key if same and key is not None and key.revoked_at is None else None

    def create(self, name: str, scopes: frozenset[KeyScope], *, now: float) -> tuple[ApiKey, str]:
        """Add a key; return it and the token, which is nowhere else. Conflict for a name in use."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest("must be up to 64 letters, digits, dots, dashes, underscores or @", param="name")
        if not scopes:
            raise InvalidRequest(f"give at least one of {', '.join(KeyScope)}", param="scopes")
        key_id = secrets.token_hex(6)
        token = f"amp_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(id=key_id, name=name, scopes=scopes, sha256=_hash(token), created_at=now)
        with self._changing() as keys:
            if any(other.name == name and other.revoked_at is None for other in keys.values()):
                raise Conflict(f"there is a key named {name!r}; revoke it first, or choose another name", param="name")
            keys[key_id] = key
        return key, token

    def revoke(self, key_id: str, *, now: float) -> ApiKey:
        """Close what a key opened, for good; NotFound for an id that is not there, nothing for one revoked before."""
        with self._changing() as keys:
            if key_id not in keys:
                raise NotFound(f"no key {key_id!r}; `ampsweep keys list` shows their ids", param="id")
            if keys[key_id].revoked_at is None:
                keys[key_id] = replace(keys[key_id], revoked_at=now)
            return keys[key_id]

    def _read(self) -> dict[str, ApiKey]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._seen is not None:
                raise DamagedFile(f"{self.path} was there and is gone; put it back, or restart the server") from None
            return self._keys
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self._seen:
            self._keys = self._load()
            self._seen = version
        return self._keys

    def _load(self) -> dict[str, ApiKey]:
        try:
            return {key.id: key for key in _KEYS.validate_json(self.path.read_bytes())}
        except (OSError, ValidationError) as error:
            raise DamagedFile(f"{self.path} cannot be read as a file of API keys") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """Yield the keys as they are now, for changes; they are written at the end, one process after the other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = self._load() if self.path.exists() else {}
            yield keys
            with atomic_write(self.path, mode=0o600) as temporary:
                temporary.write_bytes(_KEYS.dump_json(list(keys.values()), indent=2) + b"\n")
        finally:
            os.close(lock)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
