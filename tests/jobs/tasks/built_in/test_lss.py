from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.cell import TaskRef
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.built_in.lss import Lss
from jobs.tasks.requests import Answer, ScoreCall
from tests.jobs.cluster import write_facts, write_jsonl

LSS = Lss()
PUBLISHED = Lss(paper=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_facts(tmp_path / "facts")


def reference(base: str, target: str, *, limit: int | None = None, task: Lss = LSS) -> TaskRef:
    return TaskRef(
        name="lss",
        version=task.version,
        data_language=base,
        target_language=target,
        limit=limit,
        split=None,
        data="facts",
        data_hash="",
    )


def items(folder: Path, base: str, target: str, *, limit: int | None = None, seed: int = 0, task: Lss = LSS) -> ItemSet:
    return task.items(folder, reference(base, target, limit=limit, task=task), seed=seed)


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text("utf-8").splitlines()]
    change(rows)
    write_jsonl(folder / "facts.jsonl", rows)


def call(context: str, continuation: str) -> ScoreCall:
    return ScoreCall(context=context, continuation=continuation)


def test_the_object_of_the_target_is_asked_first_then_that_of_the_premises_language(folder: Path) -> None:
    item = items(folder, "en", "fr").items[0]
    premise = "What is the capital of GB-en? It is"
    assert item.doc_id == "capital-GB"
    assert item.calls == (call(premise, " Londres"), call(premise, " London"))


def test_no_space_stands_before_an_object_in_a_language_without_spaces(folder: Path) -> None:
    chinese_item = items(folder, "zh", "en").items[1]
    assert chinese_item.calls == (call("GB-zh的首都是", "London"), call("GB-zh的首都是", "伦敦"))
    (other,) = (item for item in items(folder, "en", "zh").items if item.doc_id == "capital-GB")
    assert [score_call.continuation for score_call in other.calls if isinstance(score_call, ScoreCall)] == [
        " 伦敦",
        " London",
    ]


@pytest.mark.parametrize(
    ("language", "space"),
    [("zh-TW", ""), ("zho_Hant", ""), ("yue_Hant", ""), ("lo", ""), ("km", ""), ("my", ""), ("ko", " "), ("vi", " ")],
)
def test_the_script_of_a_language_says_whether_it_has_spaces(tmp_path: Path, language: str, space: str) -> None:
    words = {"en": "Laos", language: "ລາວ"}
    write_jsonl(tmp_path / "facts.jsonl", [{"id": 1, "relation": "r", "subject": words, "object": words}])
    write_jsonl(tmp_path / "templates.jsonl", [{"relation": "r", "language": language, "template": "[X]: [Y]"}])
    (item,) = items(tmp_path, language, "en").items
    assert item.calls == (call("ລາວ:", f"{space}Laos"), call("ລາວ:", f"{space}ລາວ"))


def test_without_a_held_out_template_the_first_is_taken(folder: Path) -> None:
    first = items(folder, "fr", "tr").items[0].calls[0]
    assert isinstance(first, ScoreCall)
    assert first.context == "La capitale de GB-fr est"


def test_facts_with_the_same_two_objects_are_left_out_and_counted(folder: Path) -> None:
    item_set = items(folder, "en", "fr")
    assert [item.doc_id for item in item_set.items] == ["capital-GB", "capital-PL", "capital-GR", "capital-CN"]
    assert item_set.left_out == 2
    assert items(folder, "en", "zh").left_out == 0


def test_facts_that_a_language_lacks_are_left_out_and_counted(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    del rows[0]["subject"]["zh"]
    del rows[1]["object"]["en"]
    write_jsonl(folder / "facts.jsonl", rows)
    assert items(folder, "zh", "en").left_out == 2


def test_published_code_keeps_facts_with_the_same_two_objects_as_not_shifted(folder: Path) -> None:
    item_set = items(folder, "en", "fr", task=PUBLISHED)
    assert [item.doc_id for item in item_set.items] == [
        f"capital-{code}" for code in ("FR", "GB", "PL", "GR", "TR", "CN")
    ]
    assert item_set.left_out == 0
    noisy = [Answer(logprobs=(-1.0,)), Answer(logprobs=(-1.0 - 1e-6,))]  # the same question in two batches
    same, different = (PUBLISHED.sample(item, noisy) for item in item_set.items[:2])
    assert (same.score, same.prediction) == (0.0, "en")
    assert different.score == pytest.approx(1e-6)


@pytest.mark.parametrize("written", ["Ankara ", "\u00a0Ankara", "Ankara"])
def test_objects_that_differ_in_outer_space_alone_are_the_same(folder: Path, written: str) -> None:
    rewrite(folder, lambda rows: rows[4]["object"].update(fr=written))
    assert "capital-TR" not in [item.doc_id for item in items(folder, "en", "fr").items]


def test_objects_that_differ_in_unicode_form_alone_are_the_same_and_that_is_told(folder: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[2]["object"].update(en="Varşova", tr=unicodedata.normalize("NFD", "Varşova"))

    rewrite(folder, change)
    assert "capital-PL" not in [item.doc_id for item in items(folder, "en", "tr").items]
    ref = LSS.resolve(folder, reference("en", "tr"))
    assert dict(ref.repairs) == {"equal_objects": 1}
    assert LSS.resolve(folder, reference("en", "zh")).repairs == ()
    assert LSS.warnings(folder, [ref]) == [
        "lss en: 1 of the pairs of objects differ only in Unicode form or white space; they count as equal"
    ]
    assert PUBLISHED.resolve(folder, reference("en", "tr", task=PUBLISHED)).repairs == ()


def without(folder: Path, **lacking: str) -> None:
    """Take facts, by their countries' codes, out of a language."""

    def change(rows: list[dict[str, Any]]) -> None:
        for language, codes in lacking.items():
            for row in rows:
                if row["id"].removeprefix("capital-") in codes.split():
                    del row["object"][language]
                    del row["subject"][language]

    rewrite(folder, change)


@pytest.mark.parametrize("blank", ["", " ", "\u3000"])
def test_a_blank_word_is_one_that_the_language_lacks_and_that_is_told(folder: Path, blank: str) -> None:
    rewrite(folder, lambda rows: (rows[1]["object"].update(fr=blank), rows[2]["subject"].update(en=blank)))
    assert [item.doc_id for item in items(folder, "en", "fr").items] == ["capital-GR", "capital-CN"]
    ref = LSS.resolve(folder, reference("en", "fr"))
    assert dict(ref.repairs) == {"blank_words": 2}
    assert LSS.warnings(folder, [ref])[0] == (
        "lss en: 2 of the subjects and objects are blank; the languages lack these facts"
    )


SHARED = (("en", "zh"), ("fr",))


def test_with_sparse_facts_a_limit_takes_the_same_ones_in_every_pair_of_languages(folder: Path) -> None:
    without(folder, fr="GB PL", zh="GR")
    pairs = [("en", "zh"), ("en", "fr"), ("zh", "en"), ("zh", "fr")]
    for seed in range(6):
        item_sets = [
            LSS.items(folder, replace(reference(*pair, limit=2), shared_by=SHARED), seed=seed).items for pair in pairs
        ]
        drawn = [{item.doc_id for item in item_set} for item_set in item_sets]
        assert drawn[0] == drawn[2]
        assert len(drawn[0]) == 2
        assert drawn[0] <= {"capital-FR", "capital-TR", "capital-CN"}
        assert all(
            drawn[0] - item_set <= {"capital-FR", "capital-TR"} for item_set in drawn
        )  # Paris and Ankara are equal in fr


def test_a_reference_keeps_the_languages_only_where_a_fact_is_not_in_all_of_them(folder: Path) -> None:
    ref = replace(reference("en", "zh"), shared_by=SHARED)
    assert LSS.resolve(folder, ref).shared_by == ()
    without(folder, tr="GB")
    assert LSS.resolve(folder, ref).shared_by == ()
    without(folder, fr="GB")
    resolved = LSS.resolve(folder, ref)
    assert resolved.shared_by == SHARED
    assert LSS.resolve(folder, resolved) == resolved


def test_a_target_language_needs_only_objects(folder: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        del rows[0]["subject"]["fr"]

    rewrite(folder, change)
    assert LSS.resolve(folder, replace(reference("en", "zh"), shared_by=SHARED)).shared_by == ()
    bases = (("en", "fr"), ("zh",))
    assert LSS.resolve(folder, replace(reference("en", "zh"), shared_by=bases)).shared_by == bases


def test_languages_that_share_no_fact_are_refused(folder: Path) -> None:
    without(folder, fr="FR GB PL", zh="GR TR CN")
    with pytest.raises(
        InvalidRequest, match=r"no fact of facts is in all of the languages en, fr, zh.* facts: any"
    ) as no:
        LSS.resolve(folder, replace(reference("en", "zh"), shared_by=SHARED))
    assert no.value.param == "facts"


def test_a_limit_takes_the_same_facts_in_every_language(folder: Path) -> None:
    chosen = {pair: items(folder, *pair, limit=3, seed=5) for pair in (("en", "zh"), ("zh", "fr"), ("tr", "zh"))}
    ids = {tuple(item.doc_id for item in item_set.items) for item_set in chosen.values()}
    assert len(ids) == 1
    assert len(next(iter(ids))) == 3
    assert all(item_set.left_out == 0 for item_set in chosen.values())
    limited = items(folder, "en", "fr", limit=3, seed=5)
    assert len(limited.items) + limited.left_out == 3


def test_the_seed_draws_the_facts_and_a_large_limit_takes_all(folder: Path) -> None:
    def drawn(seed: int, limit: int = 3) -> list[str]:
        return [item.doc_id for item in items(folder, "en", "zh", limit=limit, seed=seed).items]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1
    assert drawn(1, limit=99) == drawn(2, limit=6) == [item.doc_id for item in items(folder, "en", "zh").items]


def an_item() -> Item:
    return Item(doc_id="x", calls=(call("a", " b"), call("a", " c")), meta={"base": "en", "target": "fr"})


@pytest.mark.parametrize(("target", "base", "likelier"), [((-1.0, -0.5), (-4.0,), "fr"), ((-4.0,), (-1.0, -0.5), "en")])
def test_the_score_is_how_much_likelier_the_targets_object_is(
    target: tuple[float, ...], base: tuple[float, ...], likelier: str
) -> None:
    answers = [
        Answer(token_ids=(1,) * len(target), logprobs=target, prompt_tokens=3),
        Answer(token_ids=(1,) * len(base), logprobs=base, prompt_tokens=3),
    ]
    sample = LSS.sample(an_item(), answers)
    assert sample.score == sum(target) - sum(base)
    assert (sample.prediction, sample.gold, sample.correct) == (likelier, None, None)
    assert sample.logprobs == (*target, *base)
    assert sample.call_tokens == (len(target), len(base))
    assert (sample.prompt_tokens, sample.completion_tokens) == (6, 3)


@pytest.mark.parametrize(
    ("bad", "reason"), [(Answer(error="too long"), "too long"), (Answer(), "the engine returned no tokens")]
)
def test_one_failed_answer_makes_a_failed_sample(bad: Answer, reason: str) -> None:
    sample = LSS.sample(an_item(), [Answer(token_ids=(1,), logprobs=(-1.0,)), bad])
    assert (sample.doc_id, sample.error, sample.score, sample.prediction) == ("x", reason, None, None)


def test_the_languages_are_those_with_a_template_and_facts(folder: Path) -> None:
    assert LSS.languages(folder, None) == {"en", "fr", "tr", "zh"}


def test_a_folder_without_facts_is_an_error_that_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InvalidRequest, match=r"facts need facts\.jsonl and templates\.jsonl .* has: notes\.txt"):
        LSS.languages(tmp_path, None)


@pytest.mark.parametrize(
    ("line", "message"), [("{", "line 1 is not JSON"), ('{"id": "x"}', "relation, subject, object")]
)
def test_a_broken_fact_is_named(folder: Path, line: str, message: str) -> None:
    (folder / "facts.jsonl").write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=message):
        LSS.languages(folder, None)
