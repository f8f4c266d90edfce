from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.base import Item
from jobs.tasks.built_in.language_confusion import LanguageConfusion
from jobs.tasks.requests import Answer, GenerateCall
from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.real_data import DATA, items, needs, reference

TASK = LanguageConfusion()
LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for source, prompts in {"okapi": ["Un ?", "Deux ?", "Trois ?"], "aya": ["Quatre ?"]}.items():
        (tmp_path / "monolingual" / source).mkdir(parents=True)
        rows = [{"prompt": prompt, "language": "fr", "source": source} for prompt in prompts]
        write_jsonl(tmp_path / "monolingual" / source / "fr.jsonl", rows)
    write_jsonl(tmp_path / "monolingual" / "aya" / "tr.jsonl", [{"prompt": "Bir?"}])
    return tmp_path


def call_of(item: Item) -> GenerateCall:
    (call,) = item.calls
    assert isinstance(call, GenerateCall)
    return call


def test_prompts_of_all_sources_in_turn(folder: Path) -> None:
    task_items = items(TASK, folder, "fr", split="monolingual").items
    assert [item.doc_id for item in task_items] == ["aya/0", "okapi/0", "okapi/1", "okapi/2"]
    assert [call_of(item).prompt for item in task_items] == ["Quatre ?", "Un ?", "Deux ?", "Trois ?"]
    assert len(items(TASK, folder, "fr", split="monolingual", limit=2).items) == 2
    assert TASK.languages(folder, "monolingual") == {"fr", "tr"}


def test_answers_are_sampled_as_published_with_a_seed_for_each_prompt(folder: Path) -> None:
    calls = [call_of(item) for item in items(TASK, folder, "fr", split="monolingual", seed=7).items]
    assert {(call.max_tokens, call.temperature, call.top_p) for call in calls} == {(100, 0.3, 0.75)}
    seeds = [call.seed for call in calls]
    assert len(set(seeds)) == 4
    assert seeds == [call_of(item).seed for item in items(TASK, folder, "fr", split="monolingual", seed=7).items]
    assert seeds[0] != call_of(items(TASK, folder, "fr", split="monolingual", seed=8).items[0]).seed


def test_the_reference_changes_with_the_files(folder: Path) -> None:
    before = TASK.resolve(folder, reference(TASK, "fr", split="monolingual", data=folder.name))
    assert before == TASK.resolve(folder, reference(TASK, "fr", split="monolingual", data=folder.name))
    write_jsonl(folder / "monolingual" / "aya" / "fr.jsonl", [{"prompt": "Cinq ?"}])
    assert (
        TASK.resolve(folder, reference(TASK, "fr", split="monolingual", data=folder.name)).data_hash != before.data_hash
    )


def test_files_without_a_source(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "fra_Latn.txt").write_text("Un ?\nDeux ?\n", encoding="utf-8")
    assert [item.doc_id for item in items(TASK, tmp_path, "fr", split="mine").items] == ["mine/0", "mine/1"]


def test_a_sample_has_the_identified_language() -> None:
    item = Item(doc_id="0", calls=())
    text = "Le chat est assis sur la chaise."
    sample = TASK.sample(item, [Answer(text=text, token_ids=(1,), logprobs=(-1.0,))])
    assert (sample.prediction, sample.completion) == ("fr", text)
    assert TASK.sample(item, [Answer(text="123 !!!", token_ids=(1,), logprobs=(-1.0,))]).prediction is None
    assert TASK.sample(item, [Answer(error="too long")]).error == "too long"


def test_an_unknown_setting_is_an_error(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no folder 'crosslingual'; folders there: monolingual"):
        TASK.languages(folder, "crosslingual")


@pytest.mark.parametrize("split", ["../monolingual", ".", "monolingual/aya", "{folder}/monolingual"])
def test_a_setting_is_never_used_as_a_path(folder: Path, split: str) -> None:
    with pytest.raises(InvalidRequest, match=r"has no folder .*; folders there: monolingual$"):
        TASK.languages(folder, split.format(folder=folder))


def test_hidden_folders_are_no_sources(folder: Path) -> None:
    (folder / "monolingual" / ".ipynb_checkpoints").mkdir()
    assert TASK.languages(folder, "monolingual") == {"fr", "tr"}


def test_a_word_list_in_the_data_sets_folder(folder: Path) -> None:
    ref = reference(TASK, "fr", split="monolingual", data=folder.name)
    before = TASK.resolve(folder, ref)
    (folder / "english_words.txt").write_text("sofa\nParis\nnew\n", encoding="utf-8")
    assert TASK.resolve(folder, ref).data_hash != before.data_hash
    item = TASK.items(folder, ref, seed=0).items[0]
    for text, passes in [
        (
            "Кошка с утра спит на sofa new Paris.",
            {language: ["sofa"] for language in ("ar", "hi", "ja", "ko", "ru", "zh")},
        ),
        ("猫はsofaの上で朝から寝ています。", {"ja": ["sofa"], "zh": ["sofa"]}),
        ("Кошка с утра спит на диване.", {}),
        ("On sofa.", {}),
    ]:
        sample = TASK.sample(item, [Answer(text=text, token_ids=(1,), logprobs=(-1.0,))])
        assert json.loads(sample.measures or "") == {"english_words": passes}
    (folder / "english_words.txt").write_text("Paris\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="no lower-case word of more than three letters"):
        TASK.resolve(folder, ref)


def test_several_answers_to_a_prompt(folder: Path) -> None:
    ref = replace(reference(TASK, "fr", split="monolingual", limit=2), sampling=TASK.sampling_options({"n": 2}))
    task_items = TASK.items(folder, ref, seed=7).items
    assert [(item.doc_id, item.answer) for item in task_items] == [
        ("aya/0", 0),
        ("aya/0", 1),
        ("okapi/0", 0),
        ("okapi/0", 1),
    ]
    first = items(TASK, folder, "fr", split="monolingual", limit=2, seed=7).items
    assert [call_of(item).seed for item in task_items[::2]] == [call_of(item).seed for item in first]
    sample = TASK.sample(task_items[3], [Answer(text="Oui.", token_ids=(1,), logprobs=(-1.0,))])
    assert (sample.doc_id, sample.answer) == ("okapi/0", 1)
    assert TASK.sample(task_items[3], [Answer(error="too long")]).answer == 1


@needs("lcb")
def test_the_published_prompts() -> None:
    folder = DATA / "lcb"
    assert TASK.languages(folder, "monolingual") == set(LANGUAGES)
    assert TASK.languages(folder, "crosslingual") == TASK.languages(folder, "monolingual") - {"en"}
    french = items(TASK, folder, "fr", split="monolingual").items
    assert len(french) == 300
    assert {item.doc_id.partition("/")[0] for item in french[:3]} == {"dolly", "native", "okapi"}
