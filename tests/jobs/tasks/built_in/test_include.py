from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.built_in.include import Include
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.real_data import DATA, items, needs

TASK = Include()
LIGHTS: dict[str, Any] = {
    "id": "q7",
    "question": "Les voyants sont : ",
    "choices": ["Orange.", "Rouge.", "Jaune.", "Bleu."],
    "label": 1,
}


def folder(path: Path, *rows: dict[str, Any]) -> Path:
    write_jsonl(path / "fr.jsonl", list(rows))
    return path


def test_the_letters_are_scored_after_the_question_and_its_options(tmp_path: Path) -> None:
    (item,) = items(TASK, folder(tmp_path, LIGHTS), "fr").items
    context = "Les voyants sont :\nA) Orange.\nB) Rouge.\nC) Jaune.\nD) Bleu.\nAnswer:"
    assert item.doc_id == "q7"
    assert item.calls == tuple(ScoreCall(context=context, continuation=f" {letter}") for letter in "ABCD")


def test_the_likeliest_letter_is_the_answer(tmp_path: Path) -> None:
    (item,) = items(TASK, folder(tmp_path, LIGHTS), "fr").items
    sample = TASK.sample(item, [Answer(logprobs=(value,)) for value in (-3.0, -1.0, -2.0, -4.0)])
    assert (sample.prediction, sample.gold, sample.correct, sample.score) == ("1", "1", True, -1.0)
    assert sample.call_tokens == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("key", "value"), [("choices", ["a", "b"]), ("choices", "abcd"), ("label", 4), ("label", None), ("label", "1")]
)
def test_a_broken_row_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=rf"fr\.jsonl, line 2: {key} must be"):
        items(TASK, folder(tmp_path, LIGHTS, {**LIGHTS, key: value}), "fr")


@needs("include")
def test_the_published_files_give_all_their_items() -> None:
    counts = {"fr": 419, "id": 550, "it": 548, "ja": 501, "ms": 501, "nl": 551, "pt": 551, "ru": 552}
    counts |= {"tr": 548, "vi": 550, "zh": 545}
    assert TASK.languages(DATA / "include", None) == set(counts)
    assert {language: len(items(TASK, DATA / "include", language).items) for language in counts} == counts
