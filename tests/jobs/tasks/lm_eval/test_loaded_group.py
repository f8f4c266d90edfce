from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from jobs.tasks.lm_eval.loaded_group import load_group
from jobs.tasks.lm_eval.names import languages_of
from jobs.tasks.loading import load_items, task_of_cell
from jobs.tasks.requests import Answer
from tests.jobs.cluster import raw_spec
from tests.jobs.tasks.lm_eval.tiny_groups import SIZES, write_groups
from tests.jobs.tasks.lm_eval.tiny_tasks import write_tasks

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_groups(write_tasks(tmp_path / "tasks"))


def test_a_group_has_the_tasks_of_its_subgroups_and_tags_and_its_own_weighting(folder: Path) -> None:
    loaded = load_group("tiny_exam", folder, limit=None, chat=False)
    assert {name: len(task.docs) for name, task in loaded.tasks.items()} == SIZES
    assert loaded.measures == (("acc", "by_size:mean"), ("acc_norm", "unweighted:mean"))
    assert load_group("tiny_exam", folder, limit=None, chat=False) is loaded
    science = load_group("tiny_exam_science", folder, limit=2, chat=False)
    assert [len(task.docs) for task in science.tasks.values()] == [2, 2]
    assert science.hash != loaded.hash


def test_a_changed_task_or_weighting_changes_the_hash(folder: Path) -> None:
    first = load_group("tiny_exam", folder, limit=1, chat=False).hash
    group = folder / "_tiny_exam.yaml"
    group.write_text(group.read_text().replace("acc, weight_by_size: true", "acc, weight_by_size: false"))
    second = load_group("tiny_exam", folder, limit=1, chat=False).hash
    task = folder / "history" / "tiny_history.yaml"
    task.write_text(task.read_text().replace("tiny_history:", "History:"))
    assert len({first, second, load_group("tiny_exam", folder, limit=1, chat=False).hash}) == 3


def test_a_sweep_asks_each_task_of_a_group_and_reports_one_score(catalog: Catalog, folder: Path) -> None:
    catalog = replace(catalog, lm_eval=folder)
    tasks = [{"name": "lm_eval:tiny_exam", "languages": ["en"], "limit": 2}]
    cell, *_ = plan(parse_spec(raw_spec(tasks=tasks)), catalog, NeuronSets(Path("nowhere")))
    items = load_items(cell, catalog).items
    assert [item.doc_id for item in items] == [f"{name}/{number}" for name in SIZES for number in range(2)]
    task = task_of_cell(cell)
    assert [metric.name for metric in task.metrics] == ["acc", "acc_norm"]
    answers = [Answer(logprobs=(-float(index),), token_ids=(1,)) for index, _ in enumerate(items[0].calls)]
    sample = task.sample(items[0], answers)
    assert sample.doc_id == "tiny_chemistry/0"
    assert set(json.loads(sample.measures or "{}")) == {"acc", "acc_norm"}


def test_a_placeholder_finds_groups_too(folder: Path) -> None:
    assert "fr" in languages_of("tiny_exam_{language}", folder)
    assert "fr" in languages_of("global_mmlu_full_{language}", folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_list", "aggregates no metric .*; name its tasks: tiny_physics, tiny_history"),
        ("tiny_mixed", "aggregates exact_match,letter, which its tasks tiny_choice do not report"),
        ("tiny_absent", "aggregates f1, which its tasks tiny_physics do not report"),
        ("tiny_twice", "has the task tiny_physics twice"),
        ("tiny_lost", "has the member tiny_alchemy, but no YAML file"),
    ],
)
def test_groups_without_one_score_are_refused(catalog: Catalog, folder: Path, name: str, message: str) -> None:
    tasks = [{"name": f"lm_eval:{name}", "languages": ["en"], "limit": 1}]
    with pytest.raises(InvalidRequest, match=message) as caught:
        plan(parse_spec(raw_spec(tasks=tasks)), replace(catalog, lm_eval=folder), NeuronSets(Path("nowhere")))
    assert caught.value.param == "tasks.0.name"


def test_tasks_that_aggregate_differently_have_no_common_score(folder: Path) -> None:
    task = folder / "science" / "tiny_physics.yaml"
    task.write_text(task.read_text().replace("acc, aggregation: mean", "acc, aggregation: median"))
    with pytest.raises(InvalidRequest, match=r"aggregate differently: .*tiny_physics by median"):
        load_group("tiny_exam", folder, limit=1, chat=False)
