from __future__ import annotations

import pytest

from jobs.evaluation.judge import Rating
from jobs.store.sql.store import SqlStore


@pytest.fixture
def store(sql_store: SqlStore) -> SqlStore:
    return sql_store


def test_ratings_are_found_by_their_keys(store: SqlStore) -> None:
    ratings = {f"key-{number}": Rating(number % 3, str(number)) for number in range(1200)}
    ratings["key-5"] = Rating(None, "no number")
    store.ratings.put("judge", ratings)
    assert store.ratings.get([*ratings, "other"]) == ratings


def test_no_ratings_change_nothing(store: SqlStore) -> None:
    store.ratings.put("judge", {})
    assert store.ratings.get([]) == {}


def test_two_servers_that_rate_the_same_answer_keep_one_rating(store: SqlStore) -> None:
    store.ratings.put("judge", {"a": Rating(1, "1"), "b": Rating(2, "2")})
    store.ratings.put("judge", {"a": Rating(0, "0")})
    assert store.ratings.get(["a", "b"]) == {"a": Rating(0, "0"), "b": Rating(2, "2")}
