from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.built_in.xwinograd import Xwinograd
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.real_data import DATA, items, needs

TASK = Xwinograd()
CUP: dict[str, Any] = {
    "sentence": "La coupe est lourde, _ est pleine. ",
    "option1": "elle",
    "option2": "il",
    "label": 0,
}


def folder(path: Path, *rows: dict[str, Any]) -> Path:
    write_jsonl(path / "fr.jsonl", list(rows))
    return path


def test_scored_is_what_follows_the_gap_with_each_option_in_it(tmp_path: Path) -> None:
    (item,) = items(TASK, folder(tmp_path, CUP), "fr").items
    assert item.calls == tuple(
        ScoreCall(context=f"La coupe est lourde, {option}", continuation=" est pleine.") for option in ("elle", "il")
    )


def test_the_hubs_answers_count_from_one(tmp_path: Path) -> None:
    hub = {key: value for key, value in CUP.items() if key != "label"} | {"answer": "2"}
    (item,) = items(TASK, folder(tmp_path, hub), "fr").items
    sample = TASK.sample(item, [Answer(logprobs=(-2.0,)), Answer(logprobs=(-0.5, -0.5))])
    assert (sample.gold, sample.prediction, sample.correct, sample.score) == ("1", "1", True, -1.0)


def test_a_gap_at_the_end_is_left_out_and_counted(tmp_path: Path) -> None:
    item_set = items(TASK, folder(tmp_path, CUP, {**CUP, "sentence": "Elle veut _"}), "fr")
    assert (len(item_set.items), item_set.left_out) == (1, 1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("sentence", "no gap", "exactly one _"), ("sentence", "_ and _", "exactly one _"), ("label", 2, "label must be")],
)
def test_a_broken_row_is_named(tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"fr\.jsonl, line 2: .*{message}"):
        items(TASK, folder(tmp_path, CUP, {**CUP, key: value}), "fr")


@needs("xwinograd")
def test_the_published_files_give_all_their_items() -> None:
    counts = {"en": 2325, "fr": 83, "ja": 959, "pt": 263, "zh": 16}
    assert TASK.languages(DATA / "xwinograd", None) == set(counts)
    for language, count in counts.items():
        item_set = items(TASK, DATA / "xwinograd", language)
        assert (len(item_set.items), item_set.left_out) == (count, 0)
