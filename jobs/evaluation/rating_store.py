"""Stored ratings of judges, so that no answer is rated twice.

The command line stores them in a file. A server stores them in its database
(`jobs.store.sql.ratings`), which it may share.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from ampsweep.errors import InvalidRequest, Unavailable
from jobs.evaluation.judge import Rating

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ratings (key TEXT PRIMARY KEY, judge TEXT, score INTEGER, reply TEXT) WITHOUT ROWID"
)
_BATCH = 500
"""Keys in one query; SQLite limits the number of parameters."""
_BUSY_SECONDS = 30.0


class RatingStore(Protocol):
    """Ratings by `rating_key`. Methods may block, and may be called from any thread."""

    def get(self, keys: Sequence[str]) -> dict[str, Rating]:
        """Return the stored ratings among some keys."""
        ...

    def put(self, judge: str, ratings: Mapping[str, Rating]) -> None:
        """Store ratings of a judge, given by its identity. They are durable when this returns."""
        ...


class RatingFile:
    """The ratings in an SQLite file, which survives interruptions. Several processes may use it.

    A connection is opened for each call, so any thread may call. Methods raise Unavailable while another process holds
    the file for too long, if the disk is full, or if the file was damaged or deleted meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """Create the file if it does not exist; raise InvalidRequest if it cannot be used."""
        if not path.parent.is_dir():
            raise InvalidRequest(f"the folder {path.parent} does not exist; create it first", param="ratings")
        self._path = path
        try:
            with closing(self._connect()) as connection, connection:
                connection.execute(_TABLE)
        except sqlite3.Error as error:
            message = f"{path} cannot be used as a file of ratings: {error}; give another path"
            raise InvalidRequest(message, param="ratings") from error

    def get(self, keys: Sequence[str]) -> dict[str, Rating]:
        """Return the stored ratings among some keys."""
        ratings: dict[str, Rating] = {}
        with self._errors_as_unavailable(), closing(self._connect()) as connection:
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                rows = connection.execute(f"SELECT key, score, reply FROM ratings WHERE key IN ({marks})", batch)  # noqa: S608
                ratings |= {key: Rating(score, reply) for key, score, reply in rows}
        return ratings

    def put(self, judge: str, ratings: Mapping[str, Rating]) -> None:
        """Store ratings of a judge, given by its identity. They are durable when this returns."""
        rows = [(key, judge, rating.score, rating.reply) for key, rating in ratings.items()]
        with self._errors_as_unavailable(), closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def _errors_as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"the ratings in {self._path} cannot be read or written: {error}; run the command again"
            raise Unavailable(message, param="ratings") from error

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
