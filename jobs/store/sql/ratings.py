"""The ratings of judges in the SQL store, which all servers on a database share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from jobs.evaluation.judge import Rating
from jobs.store.sql.database import Database
from jobs.store.sql.tables import ratings
from jobs.store.sql.transaction import chunks


class Ratings:
    """Implements `jobs.evaluation.rating_store.RatingStore` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, keys: Sequence[str]) -> dict[str, Rating]:
        """See the protocol."""
        column = ratings.c
        stored: dict[str, Rating] = {}
        with self._database.reading() as db:
            for chunk in chunks(keys):
                rows = db.execute(sa.select(column.key, column.score, column.reply).where(column.key.in_(chunk)))
                stored |= {key: Rating(score, reply) for key, score, reply in rows}
        return stored

    def put(self, judge: str, new: Mapping[str, Rating]) -> None:
        """See the protocol."""
        rows = [
            {"key": key, "judge": judge, "score": rating.score, "reply": rating.reply} for key, rating in new.items()
        ]
        if not rows:
            return
        with self._database.writing() as db:
            for chunk in chunks(list(new)):
                db.execute(sa.delete(ratings).where(ratings.c.key.in_(chunk)))
            db.execute(sa.insert(ratings), rows)
