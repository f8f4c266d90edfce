"""API keys and their scopes, stored in one file of the server's home.

A key is 256 random bits and is shown once, when it is created. The file stores its SHA-256 hash: 256 random bits cannot
be guessed, so a slow hash would protect no better, and a key is checked at every request. The file is read again
whenever it has changed, so changes made on the command line take effect at once, without a restart. Keys are never
removed from the file: a revoked key stays there with the time of its revocation, so that a server that has once
required keys keeps requiring them.
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

from ampsweep.errors import Conflict, DamagedFile, InvalidRequest, NotFound, Unavailable
from ampsweep.files import atomic_write

_TOKEN = re.compile(r"amp_([0-9a-f]{12})_([0-9A-Za-z_-]{43})")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._@-]{0,63}")
_UNKNOWN_HASH = "0" * 64
"""Compared with the hash of an unknown token, so that the check takes as long as for a known one."""


class KeyScope(StrEnum):
    """What a key allows: `read` data, `submit` work to the engines, `admin` everything, for the data of all users."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as stored in the file: everything except the secret itself. Times are in seconds since the epoch."""

    id: str
    name: str
    scopes: frozenset[KeyScope]
    sha256: str
    created_at: float
    revoked_at: float | None = None


_KEYS = TypeAdapter(list[ApiKey])


class KeyFile:
    """The keys of a file, which may not exist yet. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def all(self) -> list[ApiKey]:
        """Return all keys, including revoked ones, oldest first; see `find` for the errors."""
        return list(self._read().values())

    def find(self, token: str) -> ApiKey | None:
        """Return the valid key of a token, or None if it is unknown or revoked.

        The hashes are compared in constant time, so that the time of a check reveals nothing about the key.

        Raises:
            DamagedFile: The file is damaged, or was deleted.
            Unavailable: The system does not let it be read now.
        """
        keys = self._read()
        match = _TOKEN.fullmatch(token)
        key = keys.get(match[1]) if match else None
        same = hmac.compare_digest(_hash(token), _UNKNOWN_HASH if key is None else key.sha256)
        return key if same and key is not None and key.revoked_at is None else None

    def create(self, name: str, scopes: frozenset[KeyScope], *, now: float) -> tuple[ApiKey, str]:
        """Add a key and return it with its token, which is not stored anywhere.

        Args:
            name: Up to 64 letters, digits and `._@-`; unique among the keys that are not revoked.
            scopes: At least one scope.
            now: The time of creation, in seconds since the epoch.

        Raises:
            InvalidRequest: The name or the scopes are not valid.
            Conflict: A valid key has this name.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"name {name!r} is not valid; use up to 64 letters, digits, dots, dashes, underscores and @, "
                "beginning with a letter or digit",
                param="name",
            )
        if not scopes:
            raise InvalidRequest(f"a key needs at least one scope of: {', '.join(KeyScope)}", param="scopes")
        key_id = secrets.token_hex(6)
        token = f"amp_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(id=key_id, name=name, scopes=scopes, sha256=_hash(token), created_at=now)
        with self._update() as keys:
            if any(other.name == name and other.revoked_at is None for other in keys.values()):
                raise Conflict(f"a key named {name!r} exists; revoke it first, or choose another name", param="name")
            keys[key_id] = key
        return key, token

    def revoke(self, key_id: str, *, now: float) -> ApiKey:
        """Revoke a key for good and return it; a key that is revoked already keeps its time.

        Raises:
            NotFound: No key has this id.
        """
        with self._update() as keys:
            if key_id not in keys:
                raise NotFound(f"no API key has the id {key_id!r}; `ampsweep keys list` shows the ids", param="id")
            if keys[key_id].revoked_at is None:
                keys[key_id] = replace(keys[key_id], revoked_at=now)
            return keys[key_id]

    def _read(self) -> dict[str, ApiKey]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            if self._version is not None:
                raise DamagedFile(
                    f"the API key file {self.path} was deleted; restore it, or restart the server to run without keys"
                ) from None
            return self._keys
        except OSError as error:
            raise _unreadable(self.path, error) from error
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if version != self._version:
            self._keys = self._load()
            self._version = version
        return self._keys

    def _load(self) -> dict[str, ApiKey]:
        try:
            return {key.id: key for key in _KEYS.validate_json(self.path.read_bytes())}
        except OSError as error:
            raise _unreadable(self.path, error) from error
        except ValidationError as error:
            raise DamagedFile(f"the API key file {self.path} cannot be read; restore it from a backup") from error

    @contextmanager
    def _update(self) -> Iterator[dict[str, ApiKey]]:
        """Yield the current keys for modification and write them back, under a lock that excludes other processes."""
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


def _unreadable(path: Path, error: OSError) -> Unavailable:
    """Return the error for a file that the system does not let read now; requests are rejected until it does."""
    return Unavailable(f"the API key file {path} cannot be read: {error.strerror or error}; make it readable again")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
