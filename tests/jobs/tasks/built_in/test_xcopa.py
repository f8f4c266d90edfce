from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.cell import TaskRef
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.built_in.xcopa import CONNECTORS, Xcopa, majority_questions, xcopa_files
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import XCOPA_ROWS, write_jsonl, write_xcopa
from tests.jobs.tasks.real_data import DATA, needs
from tests.jobs.tasks.real_data import items as items_of

XCOPA = Xcopa()
PUBLISHED = Xcopa(paper=True)


def items(
    folder: Path, language: str, *, limit: int | None = None, split: str = "test", task: Xcopa = XCOPA
) -> ItemSet:
    return items_of(task, folder, language, limit=limit, split=split)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_xcopa(tmp_path / "xcopa")


def prompt_pairs(item: Item) -> list[tuple[str, str]]:
    return [(str(call.context), call.continuation) for call in item.calls if isinstance(call, ScoreCall)]


def test_a_premise_is_joined_to_its_options_as_published(folder: Path) -> None:
    cause, effect, _ = items(folder, "it").items
    premise = XCOPA_ROWS[0]["premise"]
    assert isinstance(premise, str)
    assert prompt_pairs(cause) == [(f"{premise[:-1]} perché", " era malata."), (f"{premise[:-1]} perché", " rideva.")]
    assert prompt_pairs(effect)[0] == ("Ha piovuto quindi", " fa caldo.")
    assert [item.doc_id for item in items(folder, "it").items] == ["0", "1", "2"]


def test_a_limit_takes_the_first_items(folder: Path) -> None:
    assert [item.doc_id for item in items(folder, "zh", limit=2).items] == ["0", "1"]
    assert items(folder, "zh").left_out == 0


@pytest.mark.parametrize(
    ("first", "second", "prediction"),
    [((-1.0, -1.0), (-3.0,), "0"), ((-3.0,), (-1.0, -1.0), "1"), ((-2.0,), (-1.0, -1.0), "0")],
)
@pytest.mark.parametrize("label", [0, 1])
def test_the_option_with_the_larger_sum_is_predicted(
    first: tuple[float, ...], second: tuple[float, ...], prediction: str, label: int
) -> None:
    item = Item(doc_id="7", calls=(), meta={"label": label})
    answers = [Answer(logprobs=first, prompt_tokens=4), Answer(logprobs=second, prompt_tokens=4)]
    sample = XCOPA.sample(item, answers)
    assert (sample.prediction, sample.gold, sample.correct) == (prediction, str(label), prediction == str(label))
    assert sample.score == -2.0
    assert sample.logprobs == (*first, *second)
    assert sample.call_tokens == (len(first), len(second))


def test_a_failed_answer_is_neither_correct_nor_wrong() -> None:
    item = Item(doc_id="7", calls=(), meta={"label": 0})
    sample = XCOPA.sample(item, [Answer(error="too long"), Answer(logprobs=(-1.0,))])
    assert (sample.error, sample.correct, sample.prediction) == ("too long", None, None)


def test_parquet_is_read_as_json_lines_are(folder: Path) -> None:
    before = items(folder, "it")
    rows = [json.loads(line) for line in (folder / "test.it.jsonl").read_text("utf-8").splitlines()]
    (folder / "test.it.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist(rows), folder / "test.ita_Latn.parquet")
    assert items(folder, "it") == before


def test_a_missing_split_is_an_error_that_lists_the_splits(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no split 'val' .* splits there: test"):
        XCOPA.languages(folder, "val")


def test_a_language_without_connectors_is_not_offered(folder: Path) -> None:
    (folder / "test.xx.jsonl").write_text("")
    assert XCOPA.languages(folder, "test") == {"it", "zh"}


@pytest.mark.parametrize(("key", "value"), [("question", "why"), ("label", 2), ("premise", " "), ("choice2", "")])
def test_a_broken_item_is_named(folder: Path, key: str, value: Any) -> None:
    rows: list[dict[str, Any]] = [{"idx": 0, **XCOPA_ROWS[0]}, {"idx": 1, **XCOPA_ROWS[1], key: value}]
    write_jsonl(folder / "test.it.jsonl", rows)
    with pytest.raises(InvalidRequest, match=rf"test\.it\.jsonl, line 2: {key} must"):
        items(folder, "it")


@pytest.mark.parametrize(
    ("language", "premise", "corrected", "published"),
    [
        ("it", "Ha piovuto.", "Ha piovuto", "Ha piovuto"),
        ("it", "Ha piovuto!", "Ha piovuto", "Ha piovuto"),
        ("zh", "下雨了。", "下雨了", "下雨了"),
        ("th", "แก้วแตก", "แก้วแตก", "แก้วแต"),
        ("th", "เขาสอบตก", "เขาสอบตก", "เขาสอบต"),
        ("ta", "மழை பெய்தது", "மழை பெய்தது", "மழை பெய்தத"),
        ("tr", "Işık söndü", "Işık söndü", "Işık sönd"),
    ],
)
def test_a_premise_loses_its_full_stop_and_no_letter(
    tmp_path: Path, language: str, premise: str, corrected: str, published: str
) -> None:
    write_jsonl(tmp_path / f"test.{language}.jsonl", [{"idx": 0, **XCOPA_ROWS[0], "premise": premise}])
    connector = CONNECTORS[language]["cause"]
    for task, expected in ((XCOPA, corrected), (PUBLISHED, published)):
        (item,) = items(tmp_path, language, task=task).items
        assert {context for context, _ in prompt_pairs(item)} == {f"{expected} {connector}"}


@pytest.mark.parametrize(
    ("language", "option", "corrected", "published"),
    [
        ("tr", "İğne battı.", " iğne battı.", " i\u0307ğne battı."),
        ("tr", "Irmak aktı.", " ırmak aktı.", " irmak aktı."),
        ("tr", "Şeker yedi.", " şeker yedi.", " şeker yedi."),
        ("it", "Il gatto.", " il gatto.", " il gatto."),
    ],
)
def test_a_first_letter_is_made_lower_case_by_its_language(
    tmp_path: Path, language: str, option: str, corrected: str, published: str
) -> None:
    write_jsonl(tmp_path / f"test.{language}.jsonl", [{"idx": 0, **XCOPA_ROWS[0], "choice1": option}])
    for task, expected in ((XCOPA, corrected), (PUBLISHED, published)):
        (item,) = items(tmp_path, language, task=task).items
        assert prompt_pairs(item)[0][1] == expected


def write_questions(folder: Path, *, label: int = 0, **questions: str) -> Path:
    """An item a letter, c for a cause and e for an effect; the labels are the same in every language."""
    words = {"c": "cause", "e": "effect"}
    for language, letters in questions.items():
        rows = [
            {**XCOPA_ROWS[0], "idx": idx, "question": words[letter], "label": (idx + label) % 2}
            for idx, letter in enumerate(letters)
        ]
        write_jsonl(folder / f"test.{language}.jsonl", rows)
    return folder


def ref_of(task: Xcopa, folder: Path, language: str) -> TaskRef:
    ref = TaskRef(
        name="xcopa",
        version=task.version,
        data_language=language,
        target_language=None,
        limit=None,
        split="test",
        data=None,
        data_hash="",
    )
    return task.resolve(folder, ref)


def questions(folder: Path, language: str, task: Xcopa = XCOPA) -> str:
    causes = CONNECTORS[language]["cause"]
    task_items = items(folder, language, task=task).items
    return "".join("c" if prompt_pairs(item)[0][0].endswith(causes) else "e" for item in task_items)


def test_a_question_is_corrected_to_that_of_most_languages(tmp_path: Path) -> None:
    folder = write_questions(tmp_path, th="eeee", it="ceec", zh="ceec", vi="ceec", tr="ceee")
    assert {language: questions(folder, language) for language in ("th", "it", "tr")} == dict.fromkeys(
        ("th", "it", "tr"), "ceec"
    )
    assert questions(folder, "th", PUBLISHED) == "eeee"


def test_corrections_are_part_of_the_cells_id_and_in_the_warnings(tmp_path: Path) -> None:
    folder = write_questions(tmp_path, th="eeee", it="ceec", zh="ceec", vi="ceec")
    thai, italian = ref_of(XCOPA, folder, "th"), ref_of(XCOPA, folder, "it")
    assert (dict(thai.repairs), dict(italian.repairs)) == ({"questions": 2}, {})
    assert XCOPA.warnings(folder, [italian, thai]) == [
        "xcopa th: 2 of the questions differ from those of most languages, which are asked instead"
    ]
    assert ref_of(PUBLISHED, folder, "th").repairs == ()
    write_questions(folder, zh="eeec", vi="eeec", it="eeec")
    assert ref_of(XCOPA, folder, "th").data_hash != thai.data_hash


def test_only_translations_of_the_same_items_vote(tmp_path: Path) -> None:
    folder = write_questions(tmp_path, th="eeee")
    write_questions(folder, label=1, it="cccc", zh="cccc", vi="cccc")
    (folder / "test.tr.jsonl").write_text("no JSON")
    assert questions(folder, "th") == "eeee"
    assert questions(write_questions(folder, it="cccc"), "th") == "eeee"  # one against one is no majority


@needs("xcopa")
def test_the_published_files_give_all_their_items() -> None:
    languages = XCOPA.languages(DATA / "xcopa", "test")
    assert languages == XCOPA.languages(DATA / "xcopa", "val") == {"et", "ht", "id", "it", "qu", "ta", "tr", "vi", "zh"}
    for language in languages:
        assert len(items(DATA / "xcopa", language, split="val").items) == 100
        task_items = items(DATA / "xcopa", language).items
        rows = [
            json.loads(line) for line in (DATA / "xcopa" / f"test.{language}.jsonl").read_text("utf-8").splitlines()
        ]
        assert [item.doc_id for item in task_items] == [str(row["idx"]) for row in rows]
        assert len(task_items) == 500
        for item, row in zip(task_items, rows, strict=True):
            connector = CONNECTORS[language][row["question"]]
            premise = row["premise"].strip()
            premise = premise[:-1] if premise[-1] in ".。" else premise
            assert {context for context, _ in prompt_pairs(item)} == {f"{premise} {connector}"}


@needs("xcopa")
def test_the_published_questions_are_right_and_stay() -> None:
    folder = DATA / "xcopa"
    for split in ("val", "test"):
        files = xcopa_files(folder, split)
        assert [majority_questions(files, language) for language in files] == [{}] * len(files)


@needs("xcopa")
def test_the_wrong_questions_of_the_source_are_found_by_those_of_most_languages(tmp_path: Path) -> None:
    for path in (DATA / "xcopa").glob("test.*.jsonl"):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        write_jsonl(tmp_path / path.name, [{**row, "question": row["question_source"]} for row in rows])
    files = xcopa_files(tmp_path, "test")
    counts = {language: len(majority_questions(files, language)) for language in files}
    assert {language: count for language, count in counts.items() if count} == {"id": 4, "it": 4, "tr": 51}
