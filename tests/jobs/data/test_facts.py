from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest
from jobs.data.facts import read_facts
from tests.jobs.cluster import write_facts, write_jsonl
from tests.jobs.tasks.real_data import DATA, needs


def to_parquet(folder: Path) -> None:
    for path in list(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
        path.unlink()


def mlama(folder: Path) -> Path:
    folder.mkdir()
    objects = {"en": "Athens", "fr": "Athènes"}
    for language, name in objects.items():
        row = {"relation": "P36", "lineid": 7, "sub_label": f"GR-{language}", "obj_label": name}
        write_jsonl(folder / f"{language}.jsonl", [row])
    forms = [("en", "The capital of [X] is [Y] ."), ("fr", "La capitale de [X] est [Y] ."), ("en", "[Y] of [X]")]
    write_jsonl(
        folder / "templates.jsonl", [{"lang": code, "relation": "P36", "template": form} for code, form in forms]
    )
    return folder


def bmlama(folder: Path) -> Path:
    folder.mkdir()
    prompts = {"en": "The capital of GR-en is <mask> .", "fr": "<mask> : capitale de GR-fr"}
    for language, prompt in prompts.items():
        row = {
            "id": 3,
            "prompt": prompt,
            "subject": f"GR-{language}",
            "answer": {"en": "Athens", "fr": "Athènes"}[language],
        }
        write_jsonl(folder / f"{language}.jsonl", [row])
    return folder


@pytest.mark.parametrize("parquet", [False, True])
def test_facts_are_read_from_json_lines_and_from_parquet(tmp_path: Path, parquet: bool) -> None:
    folder = write_facts(tmp_path / "facts")
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text("utf-8").splitlines()]
    del rows[0]["object"]["tr"]
    write_jsonl(folder / "facts.jsonl", rows)
    before = read_facts(folder)
    if parquet:
        to_parquet(folder)
    fact_set = read_facts(folder)
    assert (fact_set.facts, fact_set.templates) == (before.facts, before.templates)
    assert "tr" not in fact_set.facts[0].object
    assert fact_set.premise(fact_set.facts[0], "fr") == "La capitale de FR-fr est"


@pytest.mark.parametrize("value", [None, False, 0, True, 1])
def test_a_template_says_by_a_boolean_that_it_is_held_out(tmp_path: Path, value: object) -> None:
    folder = write_facts(tmp_path / "facts")
    forms = [json.loads(line) for line in (folder / "templates.jsonl").read_text("utf-8").splitlines()]
    first = next(form for form in forms if form["template"] == "The capital of [X] is [Y].")
    other = {**first, "template": f"Again: {first['template']}", "held_out": value}
    write_jsonl(folder / "templates.jsonl", [{**form, "held_out": False} for form in forms] + [other])
    fact_set = read_facts(folder)
    assert fact_set.templates[first["relation"], "en"] == (other if value else first)["template"]


@pytest.mark.parametrize("value", ["no", [1], 2])
def test_anything_but_a_boolean_is_no_answer_to_whether_a_template_is_held_out(tmp_path: Path, value: object) -> None:
    folder = write_facts(tmp_path / "facts")
    forms = [json.loads(line) for line in (folder / "templates.jsonl").read_text("utf-8").splitlines()]
    write_jsonl(folder / "templates.jsonl", [{**form, "held_out": value} for form in forms])
    with pytest.raises(InvalidRequest, match=r"templates\.jsonl, line 1: held_out must be true or false"):
        read_facts(folder)


@pytest.mark.parametrize("parquet", [False, True])
def test_the_layout_of_mlama_is_read(tmp_path: Path, parquet: bool) -> None:
    folder = mlama(tmp_path / "mlama")
    if parquet:
        to_parquet(folder)
    fact_set = read_facts(folder)
    (fact,) = fact_set.facts
    assert (fact.id, fact.object) == ("P36-7", {"en": "Athens", "fr": "Athènes"})
    assert fact_set.premise(fact, "en") == "The capital of GR-en is"
    assert fact_set.languages == {"en", "fr"}


def test_the_layout_of_bmlama_is_read_but_for_sentences_that_begin_with_the_answer(tmp_path: Path) -> None:
    fact_set = read_facts(bmlama(tmp_path / "bmlama53"))
    (fact,) = fact_set.facts
    assert fact_set.premise(fact, "en") == "The capital of GR-en is"
    assert fact_set.premise(fact, "fr") is None
    assert fact_set.languages == {"en"}


@pytest.mark.parametrize("rows", [[{"id": 1}], []])
def test_a_missing_file_or_field_is_named(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        write_jsonl(tmp_path / "en.jsonl", rows)
        expected = r"en\.jsonl, line 1 has no prompt"
    else:
        expected = "facts need facts"
    with pytest.raises(InvalidRequest, match=expected):
        read_facts(tmp_path)


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    folder = write_facts(tmp_path / "capitals")
    (folder / "facts.parquet").write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"has both facts\.jsonl and facts\.parquet; keep one of them"):
        read_facts(folder)


def test_two_files_of_one_language_are_refused(tmp_path: Path) -> None:
    (bmlama(tmp_path / "bmlama") / "fra.jsonl").write_text("{}")
    with pytest.raises(InvalidRequest, match=r"BMLAMA-53: bmlama has two files for fr: fr\.jsonl, fra\.jsonl"):
        read_facts(tmp_path / "bmlama")


@pytest.mark.processes  # takes seconds
@needs("bmlama53")
def test_the_published_parallel_facts_are_read() -> None:
    fact_set = read_facts(DATA / "bmlama53")
    assert len(fact_set.facts) == 3070
    assert len(fact_set.languages) == 15
