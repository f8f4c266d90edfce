from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import DataUnavailable, InvalidRequest
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from jobs.tasks.lm_eval.loaded_task import load
from jobs.tasks.loading import load_items
from jobs.tasks.requests import Answer, GenerateCall, ScoreCall
from tests.jobs.cluster import raw_spec, write_jsonl
from tests.jobs.tasks.lm_eval.tiny_tasks import ROWS, write_tasks

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def test_the_same_requests_have_the_same_hash_and_others_another(folder: Path) -> None:
    first = load("tiny_until", folder, limit=2, chat=False)
    assert load("tiny_until", folder, limit=2, chat=False) is first
    assert load("tiny_until", folder, limit=3, chat=False).hash != first.hash
    (folder / "own.py").write_text((folder / "own.py").read_text() + "\n# scored otherwise\n")
    changed = load("tiny_until", folder, limit=2, chat=False)
    assert changed.hash != first.hash
    write_jsonl(folder / "rows.jsonl", [{**row, "question": "Why?"} for row in ROWS])
    (folder / "own.py").write_text((folder / "own.py").read_text() + "\n")
    assert load("tiny_until", folder, limit=2, chat=False).hash != changed.hash


_SHUFFLING = """import random

import numpy as np


def even(dataset):
    return dataset.map(shuffled)


def shuffled(doc):
    return {**doc, "choices": random.sample(doc["choices"], 2), "question": str(np.random.randint(10**9))}
"""


def test_documents_drawn_with_the_global_random_numbers_are_the_same_in_every_process(tmp_path: Path) -> None:
    loaded = []
    for number in range(2):
        folder = write_tasks(tmp_path / f"tasks-{number}")
        (folder / "own.py").write_text(_SHUFFLING, encoding="utf-8")
        datasets.config.HF_DATASETS_CACHE = tmp_path / f"datasets-{number}"  # no other process has filled it
        random.seed(number)
        np.random.seed(number)
        loaded.append(load("tiny_until", folder, limit=None, chat=False))
        assert random.random() == random.Random(number).random(), "the state is restored"
        assert np.random.random() == np.random.RandomState(number).random()
    first, second = loaded
    assert list(first.docs.values()) == list(second.docs.values())
    arguments = [[request.arguments for request in task.requests[0]] for task in loaded]
    assert arguments[0] == arguments[1]


def test_a_sweep_plans_cells_of_it_and_loads_their_items_as_often_as_it_likes(catalog: Catalog, folder: Path) -> None:
    catalog = replace(catalog, lm_eval=folder)
    tasks = [{"name": "lm_eval:tiny_{language}", "languages": ["en"], "limit": 2}]
    cells = plan(parse_spec(raw_spec(tasks=tasks)), catalog, NeuronSets(Path("nowhere")))
    assert len(cells) == 5
    assert {cell.task.measures for cell in cells} == {(("acc", "mean"), ("acc_norm", "mean"))}
    first, second = (load_items(cell, catalog).items for cell in cells[:2])
    assert [item.calls for item in first] == [item.calls for item in second]
    assert all(isinstance(call, ScoreCall) for item in first for call in item.calls)


def test_scoring_leaves_nothing_behind(catalog: Catalog, folder: Path) -> None:
    from jobs.tasks.loading import task_of_cell

    catalog = replace(catalog, lm_eval=folder)
    tasks = [{"name": "lm_eval:tiny_until", "languages": ["en"], "limit": 1}]
    cell, *_ = plan(parse_spec(raw_spec(tasks=tasks)), catalog, NeuronSets(Path("nowhere")))
    (item,) = load_items(cell, catalog).items
    task = task_of_cell(cell)
    texts = [task.sample(item, [Answer(text=text, token_ids=(1,), logprobs=(-1.0,))]) for text in ("1", "2", "1")]
    assert [sample.completion for sample in texts] == ["1", "2", "1"]
    assert texts[0] == texts[2] != texts[1]
    assert (texts[0].gold, texts[0].correct, texts[1].correct) == ("1", None, None)  # it has a score for each filter
    assert texts[0].measures is not None
    assert '"exact_match,whole": 1.0' in texts[0].measures
    assert task.sample(item, [Answer(error="too long")]).error == "too long"


def test_a_chat_is_written_by_the_engine(catalog: Catalog, folder: Path) -> None:
    catalog = replace(catalog, lm_eval=folder)
    tasks = [{"name": "lm_eval:tiny_choice", "languages": ["en"], "limit": 1, "chat": True}]
    cell, *_ = plan(parse_spec(raw_spec(tasks=tasks)), catalog, NeuronSets(Path("nowhere")))
    (item,) = load_items(cell, catalog).items
    scored, written, *_ = item.calls
    assert isinstance(scored, ScoreCall)
    assert isinstance(written, GenerateCall)
    roles = [message.role for message in scored.context if isinstance(message, ChatMessage)]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert written.prompt == scored.context
    assert not scored.continuation.startswith(" ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generation_kwargs: {until: ['.'], do_sample: true, temperature: 1.0}", "needs sampling or beam search"),
        ("unsafe_code: true", "runs code that the model writes"),
        ("test_split: nowhere", "could not load"),
        ("doc_to_text: '{{ question.nothing.at_all }}'", "could not load odd: UndefinedError"),
        ("gen_prefix: 'So:'", "could not build the requests .* leave chat out"),
    ],
)
def test_unsupported_tasks_are_refused(catalog: Catalog, folder: Path, change: str, message: str) -> None:
    lines = (folder / "tiny_until.yaml").read_text().replace("task: tiny_until", "task: odd")
    keys = {line.split(":")[0] for line in change.splitlines()}
    unchanged = [line for line in lines.splitlines() if line.split(":")[0] not in keys]
    (folder / "odd.yaml").write_text("\n".join([*unchanged, change, ""]))
    tasks: list[dict[str, Any]] = [
        {"name": "lm_eval:odd", "languages": ["en"], "limit": 1, "chat": "gen_prefix" in keys}
    ]
    with pytest.raises(InvalidRequest, match=message) as caught:
        plan(parse_spec(raw_spec(tasks=tasks)), replace(catalog, lm_eval=folder), NeuronSets(Path("nowhere")))
    assert caught.value.param == "tasks.0.name"


def test_a_task_of_the_hub_without_a_connection_names_the_task_and_the_remedy(
    catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    text = (folder / "tiny_until.yaml").read_text().replace("task: tiny_until", "task: of_hub")
    lines = [line for line in text.splitlines() if "data_files" not in line and "dataset_kwargs" not in line]
    (folder / "of_hub.yaml").write_text("\n".join(lines).replace("path: json", "path: nobody/no-such-data") + "\n")
    tasks = [{"name": "lm_eval:of_hub", "languages": ["en"]}]
    with pytest.raises(DataUnavailable, match=r"of_hub could not be loaded, because .* HF_ENDPOINT") as caught:
        plan(parse_spec(raw_spec(tasks=tasks)), replace(catalog, lm_eval=folder), NeuronSets(Path("nowhere")))
    assert caught.value.param == "tasks.0.name"
