from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest, Unavailable
from jobs.evaluation.judge import Rating
from jobs.evaluation.rating_store import RatingFile


def test_ratings_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    ratings = {f"key-{number}": Rating(number % 3, str(number)) for number in range(1200)}
    ratings["key-5"] = Rating(None, "no number")
    RatingFile(tmp_path / "ratings.db").put("judge", ratings)
    assert RatingFile(tmp_path / "ratings.db").get([*ratings, "other"]) == ratings


def test_threads_write_side_by_side(tmp_path: Path) -> None:
    store = RatingFile(tmp_path / "ratings.db")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.put("judge", {str(number): Rating(1, "1")}), range(40)))
    assert len(store.get([str(number) for number in range(40)])) == 40


def test_a_file_that_fails_later_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "ratings.db"
    store = RatingFile(path)
    path.write_bytes(b"no database any more, and long enough to be read as one" * 50)
    for call in (lambda: store.get(["a"]), lambda: store.put("judge", {"a": Rating(1, "1")})):
        with pytest.raises(Unavailable, match=r"the ratings in .*ratings\.db cannot be read or written"):
            call()


def test_a_path_that_cannot_hold_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"gone does not exist"):
        RatingFile(tmp_path / "gone" / "ratings.db")
    (tmp_path / "text").write_text("no database, and long enough to be read as one" * 50)
    with pytest.raises(InvalidRequest, match=r"cannot be used as a file of ratings"):
        RatingFile(tmp_path / "text")
