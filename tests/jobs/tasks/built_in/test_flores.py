from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.built_in.flores import NEW_TOKENS, Flores
from jobs.tasks.requests import Answer, GenerateCall
from tests.jobs.tasks.real_data import DATA, items, needs

TASK = Flores(targeted=True)
UNTARGETED = Flores(targeted=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    split = tmp_path / "devtest"
    split.mkdir()
    (split / "eng_Latn.txt").write_text("Good morning.\nHow are you?\n", encoding="utf-8")
    (split / "fra_Latn.txt").write_text("Bonjour.\nÇa va ?\n", encoding="utf-8")
    (split / "xx.txt").write_text("?\n?\n", encoding="utf-8")
    return tmp_path


def prompt(task: Flores, folder: Path) -> str:
    (call,) = items(task, folder, "fr", split="devtest", limit=1).items[0].calls
    assert isinstance(call, GenerateCall)
    assert isinstance(call.prompt, str)
    assert (call.max_tokens, call.stop) == (NEW_TOKENS, ("\n",))
    return call.prompt


def test_the_prompt_names_the_language_or_leaves_it_to_the_intervention(folder: Path) -> None:
    assert prompt(TASK, folder) == "Translate from English to French.\n\nEnglish: Good morning.\nFrench:"
    assert "French" not in prompt(UNTARGETED, folder)
    assert (TASK.name, UNTARGETED.name) == ("flores", "flores_untargeted")


def test_a_sample_has_the_completion_and_the_reference_translation(folder: Path) -> None:
    item = items(TASK, folder, "fr", split="devtest").items[1]
    sample = TASK.sample(item, [Answer(text=" Comment ça va ? ", token_ids=(1, 2), logprobs=(-1.0, -2.0))])
    assert (sample.completion, sample.gold, sample.completion_tokens) == ("Comment ça va ?", "Ça va ?", 2)
    assert sample.input == "How are you?"
    assert TASK.sample(item, [Answer(error="too long")]).error == "too long"


def test_languages_are_those_with_a_file_and_a_name_but_not_the_source(folder: Path) -> None:
    assert TASK.languages(folder, "devtest") == {"fr"}
    assert UNTARGETED.languages(folder, "devtest") == {"fr", "xx"}, "its prompt names no language"
    for code in ("deu_Latn", "yue_Hant", "ckb_Arab", "kas_Deva"):
        (folder / "devtest" / f"{code}.txt").write_text("?\n?\n", encoding="utf-8")
    assert TASK.languages(folder, "devtest") == {"fr", "de", "yue_Hant", "ckb_Arab"}
    (folder / "devtest" / "eng_Latn.txt").unlink()
    assert TASK.languages(folder, "devtest") == frozenset()


def test_files_that_are_not_aligned_are_refused(folder: Path) -> None:
    (folder / "devtest" / "fra_Latn.txt").write_text("Bonjour.\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"not aligned: line 2 of fra_Latn\.txt is blank or missing"):
        items(TASK, folder, "fr", split="devtest")


def test_a_sentence_keeps_the_number_of_its_line(folder: Path) -> None:
    for name, lines in (("eng_Latn", "Good morning.\n\nHow are you?\n"), ("fra_Latn", "Bonjour.\n\nÇa va ?\n")):
        (folder / "devtest" / f"{name}.txt").write_text(lines, encoding="utf-8")
    task_items = items(TASK, folder, "fr", split="devtest").items
    assert [(item.doc_id, item.meta["gold"]) for item in task_items] == [("0", "Bonjour."), ("2", "Ça va ?")]


@needs("flores200")
def test_the_published_files_give_all_their_sentences() -> None:
    languages = TASK.languages(DATA / "flores200", "devtest")
    assert len(languages) == 13
    assert len(items(TASK, DATA / "flores200", "ja", split="devtest").items) == 1012
