from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.requests import Answer, ScoreCall
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.xcopa import CONNECTORS, Xcopa
from tests.jobs.tasks.real_data import DATA, needs
from tests.jobs.tasks.real_data import items as items_of
from tests.jobs.world import XCOPA_ROWS, write_jsonl, write_xcopa

XCOPA = Xcopa()


def items(folder: Path, language: str, *, limit: int | None = None, split: str = "test") -> ItemSet:
    return items_of(XCOPA, folder, language, limit=limit, split=split)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_xcopa(tmp_path / "xcopa")


def asked(item: Item) -> list[tuple[str, str]]:
    return [(str(call.context), call.continuation) for call in item.calls if isinstance(call, ScoreCall)]


def test_a_premise_is_joined_to_its_options_as_published(folder: Path) -> None:
    cause, effect, _ = items(folder, "it").items
    premise = XCOPA_ROWS[0]["premise"]
    assert isinstance(premise, str)
    assert asked(cause) == [(f"{premise[:-1]} perché", " era malata."), (f"{premise[:-1]} perché", " rideva.")]
    assert asked(effect)[0] == ("Ha piovuto quindi", " fa caldo.")
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


def test_a_failed_answer_is_neither_right_nor_wrong() -> None:
    item = Item(doc_id="7", calls=(), meta={"label": 0})
    sample = XCOPA.sample(item, [Answer(error="too long"), Answer(logprobs=(-1.0,))])
    assert (sample.error, sample.correct, sample.prediction) == ("too long", None, None)


def test_parquet_is_read_as_json_lines_are(folder: Path) -> None:
    before = items(folder, "it")
    rows = [json.loads(line) for line in (folder / "test.it.jsonl").read_text("utf-8").splitlines()]
    (folder / "test.it.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist(rows), folder / "test.ita_Latn.parquet")
    assert items(folder, "it") == before


def test_a_missing_split_lists_those_that_are_there(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no split 'val' .* splits there: test"):
        XCOPA.languages(folder, "val")


def test_a_file_without_connectors_is_no_language(folder: Path) -> None:
    (folder / "test.xx.jsonl").write_text("")
    assert XCOPA.languages(folder, "test") == {"it", "zh"}


@pytest.mark.parametrize(("key", "value"), [("question", "why"), ("label", 2), ("premise", " "), ("choice2", "")])
def test_a_broken_item_is_named(folder: Path, key: str, value: Any) -> None:
    rows: list[dict[str, Any]] = [{"idx": 0, **XCOPA_ROWS[0]}, {"idx": 1, **XCOPA_ROWS[1], key: value}]
    write_jsonl(folder / "test.it.jsonl", rows)
    with pytest.raises(InvalidRequest, match=r"test\.it\.jsonl, item 2"):
        items(folder, "it")


@needs("xcopa")
def test_the_published_files_give_all_their_items() -> None:
    languages = XCOPA.languages(DATA / "xcopa", "test")
    assert languages == XCOPA.languages(DATA / "xcopa", "val") == {"et", "ht", "id", "it", "qu", "ta", "tr", "vi", "zh"}
    for language in languages:
        assert len(items(DATA / "xcopa", language, split="val").items) == 100
        found = items(DATA / "xcopa", language).items
        rows = [
            json.loads(line) for line in (DATA / "xcopa" / f"test.{language}.jsonl").read_text("utf-8").splitlines()
        ]
        assert [item.doc_id for item in found] == [str(row["idx"]) for row in rows]
        assert len(found) == 500
        for item, row in zip(found, rows, strict=True):
            connector = CONNECTORS[language][row["question"]]
            assert {context for context, _ in asked(item)} == {f"{row['premise'].strip()[:-1]} {connector}"}
