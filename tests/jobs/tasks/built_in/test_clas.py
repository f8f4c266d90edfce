from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.language_control.identifiers import open_identifier
from jobs.tasks.base import Item
from jobs.tasks.built_in.clas import Clas
from jobs.tasks.requests import Answer, GenerateCall
from tests.jobs.cluster import write_jsonl
from tests.jobs.evaluation.evaluated import evaluated
from tests.jobs.tasks.real_data import items, reference

TASK = Clas()
ANSWERS = [
    "Le chat dort sur le canapé.\nIl a mangé.",
    "The cat sleeps on the sofa.",
    "Kedi kanepede uyuyor.",
    "123 !!!",
    "Il pleut sur la ville depuis hier soir.",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fr.txt").write_text("Qui ?\nQuoi ?\nOù ?\n", encoding="utf-8")
    (tmp_path / "en.txt").write_text("Who?\nWhat?\nWhere?\n", encoding="utf-8")
    return tmp_path


def sample_of(text: str) -> str | None:
    return TASK.sample(Item(doc_id="0", calls=()), [Answer(text=text, token_ids=(1,), logprobs=(-1.0,))]).prediction


def test_each_question_is_answered_greedily(folder: Path) -> None:
    asked_items = items(TASK, folder, "fr", limit=2).items
    assert [item.doc_id for item in asked_items] == ["0", "1"]
    assert [item.calls for item in asked_items] == [
        (GenerateCall(prompt=text, max_tokens=1024),) for text in ("Qui ?", "Quoi ?")
    ]
    assert TASK.languages(folder, None) == {"en", "fr"}


def test_one_table_has_all_languages(tmp_path: Path) -> None:
    rows = [{"language": "en", "question": "Who?"}, {"language": "fra", "question": "Qui ?"}]
    write_jsonl(tmp_path / "questions.jsonl", rows)
    assert TASK.languages(tmp_path, None) == {"en", "fr"}
    (item,) = items(TASK, tmp_path, "fr").items
    assert item.calls == (GenerateCall(prompt="Qui ?", max_tokens=1024),)


def test_the_language_of_the_whole_answer_is_that_of_an_evaluation_of_the_stored_answer() -> None:
    values = evaluated(ANSWERS, "fr", "lfs", identifier=open_identifier())
    predictions = [sample_of(answer) for answer in ANSWERS]
    assert values["lfs"] == sum(prediction == "fr" for prediction in predictions) / len(ANSWERS) == 0.4
    assert predictions[3] is None, "a text without letters is in no language"


def test_the_plan_warns_where_the_chat_template_is_not_used(folder: Path) -> None:
    ref = TASK.resolve(folder, reference(TASK, "fr", data=folder.name))
    assert TASK.warnings(folder, [ref]) == ["clas asks without the chat template; give chat: true to ask as published"]
    assert TASK.warnings(folder, [replace(ref, chat=True)]) == []


def test_the_reference_changes_with_the_questions(folder: Path) -> None:
    ref = reference(TASK, "fr", data=folder.name)
    before = TASK.resolve(folder, ref)
    assert before == TASK.resolve(folder, ref)
    (folder / "fr.txt").write_text("Quand ?\n", encoding="utf-8")
    assert TASK.resolve(folder, ref).data_hash != before.data_hash


def test_a_failed_answer_is_a_failed_sample() -> None:
    assert TASK.sample(Item(doc_id="0", calls=()), [Answer(error="too long")]).error == "too long"
