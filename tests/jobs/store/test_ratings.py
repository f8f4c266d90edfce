from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.evaluation.judge import Rating
from jobs.store.sql import SqlStore
from tests.jobs.cluster import CountingIds, ManualClock, quick_sql_store
from tests.postgres import empty_store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[SqlStore]:
    if request.param == "sqlite":
        opened = quick_sql_store(tmp_path, clock)
    else:
        opened = empty_store(request.getfixturevalue("postgres_url"), clock, CountingIds())
    yield opened
    opened.close()


def test_ratings_are_found_by_their_keys(store: SqlStore) -> None:
    ratings = {f"key-{number}": Rating(number % 3, str(number)) for number in range(1200)}
    ratings["key-5"] = Rating(None, "no number")
    store.ratings.put("judge", ratings)
    assert store.ratings.get([*ratings, "other"]) == ratings


def test_two_servers_that_rate_the_same_answer_keep_one_rating(store: SqlStore) -> None:
    store.ratings.put("judge", {"a": Rating(1, "1"), "b": Rating(2, "2")})
    store.ratings.put("judge", {"a": Rating(0, "0")})
    assert store.ratings.get(["a", "b"]) == {"a": Rating(0, "0"), "b": Rating(2, "2")}
