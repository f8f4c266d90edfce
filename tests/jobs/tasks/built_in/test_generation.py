from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.texts import read_texts, text_files
from jobs.tasks.base import Item
from jobs.tasks.built_in import generation
from jobs.tasks.built_in.generation import NEW_TOKENS, Generation
from jobs.tasks.requests import Answer, GenerateCall
from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.real_data import DATA, items, needs, reference

TASK = Generation()
ITEM = Item(doc_id="0", calls=())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "fr.jsonl", [{"prompt": "Il était une fois"}, {"prompt": "Demain"}])
    return tmp_path


def test_each_text_is_continued(folder: Path) -> None:
    task_items = items(TASK, folder, "fr", split="devtest", limit=1).items
    assert [item.calls for item in task_items] == [(GenerateCall(prompt="Il était une fois", max_tokens=NEW_TOKENS),)]
    assert TASK.languages(folder, "devtest") == {"fr"}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Le chat est assis sur la chaise et regarde les oiseaux.", "fr"),
        ("Kedi sandalyede oturuyor ve kuşlara bakıyor.", "tr"),
        ("猫坐在椅子上看着鸟。", "zh"),
        ("Вчера вечером в городе открылась новая библиотека, в которой можно читать до полуночи.", "ru"),
    ],
)
def test_a_sample_has_the_identified_language(text: str, language: str) -> None:
    sample = TASK.sample(ITEM, [Answer(text=f" {text}", token_ids=(1,), logprobs=(-1.0,))])
    assert (sample.prediction, sample.completion) == (language, f" {text}")
    assert sample.score is not None
    assert 0.5 < sample.score <= 1


@pytest.mark.parametrize("text", ["", " \n", "123 !!!", "🙂 👍"])
def test_a_continuation_without_letters_is_in_no_language(text: str) -> None:
    sample = TASK.sample(ITEM, [Answer(text=text, token_ids=(1,), logprobs=(-1.0,))])
    assert (sample.prediction, sample.score, sample.error) == (None, None, None)


def test_another_identifier_gives_other_cells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = TASK.resolve(folder, reference(TASK, "fr", split="devtest", data=folder.name))
    assert before == TASK.resolve(folder, reference(TASK, "fr", split="devtest", data=folder.name))
    monkeypatch.setattr(metadata, "version", lambda _: "99")
    assert TASK.resolve(folder, reference(TASK, "fr", split="devtest", data=folder.name)).data_hash != before.data_hash


def test_without_the_identifier_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "IDENTIFIER", "py3langid_that_is_not_here")
    with pytest.raises(InvalidRequest, match="needs py3langid_that_is_not_here, which is not installed"):
        TASK.resolve(folder, reference(TASK, "fr", split="devtest", data=folder.name))


@needs("flores200")
def test_languages_of_real_sentences_are_identified() -> None:
    files = text_files(DATA / "flores200", "dev", default="devtest")
    right = {}
    for language, path in files.items():
        answers = [Answer(text=one.text, token_ids=(1,), logprobs=(-1.0,)) for one in read_texts(path).items[:200]]
        correct = [TASK.sample(ITEM, [answer]).prediction == language for answer in answers]
        right[language] = sum(correct) / len(correct)
    hard = {language: right.pop(language) for language in ("ms", "id", "zh")}
    assert min(right.values()) >= 0.99
    assert {language: round(share, 2) for language, share in hard.items()} == {"ms": 0.83, "id": 0.93, "zh": 0.94}
