from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.built_in.perplexity import Perplexity
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.tasks.real_data import DATA, items, needs

TASK = Perplexity()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "fra_Latn.txt").write_text("Bonjour.\nÇa va ?\n", encoding="utf-8")
    return tmp_path


def test_each_sentence_is_scored_from_its_first_token_on(folder: Path) -> None:
    task_items = items(TASK, folder, "fr", split="dev").items
    assert [item.calls for item in task_items] == [
        (ScoreCall(context="", continuation="Bonjour."),),
        (ScoreCall(context="", continuation="Ça va ?"),),
    ]
    assert [item.doc_id for item in items(TASK, folder, "fr", split="dev", limit=1).items] == ["0"]


def test_a_sentence_keeps_the_number_of_its_line(folder: Path) -> None:
    (folder / "dev" / "fra_Latn.txt").write_text("Bonjour.\n\nÇa va ?\n", encoding="utf-8")
    assert [item.doc_id for item in items(TASK, folder, "fr", split="dev").items] == ["0", "2"]


def test_the_score_is_the_mean_over_a_sentences_tokens(folder: Path) -> None:
    item = items(TASK, folder, "fr", split="dev").items[0]
    assert TASK.sample(item, [Answer(logprobs=(-1.0, -2.0, -6.0))]).score == 3.0
    assert TASK.sample(item, [Answer(error="too long")]).error == "too long"


def test_a_missing_split_is_an_error_that_lists_the_splits(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no split 'devtest'; splits there: dev"):
        TASK.languages(folder, "devtest")


@needs("flores200")
def test_the_published_files_give_all_their_sentences() -> None:
    folder = DATA / "flores200"
    assert {language: len(items(TASK, folder, language, split="devtest").items) for language in ("ht", "zh")} == {
        "ht": 1012,
        "zh": 1012,
    }
    assert len(TASK.languages(folder, "dev")) == 18
