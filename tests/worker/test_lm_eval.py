"""Tasks of lm-eval on our engines, compared with lm-eval's own evaluation."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from ampsweep.bundled import ATLAS_MODEL
from engine.hf.engine import TransformersEngine
from jobs.cell import TaskRef
from jobs.metrics.base import SourcedMetric
from jobs.sample import Sample
from jobs.tasks.lm_eval.task import LmEval
from jobs.tasks.registry import task_of
from tests.jobs.tasks.lm_eval.tiny_groups import SIZES, write_groups
from tests.jobs.tasks.lm_eval.tiny_tasks import NAMES, write_tasks
from worker.task_calls import TaskCalls

pytestmark = pytest.mark.processes  # runs the bundled model for seconds

LIMIT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield write_groups(write_tasks(tmp_path_factory.mktemp("own") / "tasks"))
    datasets.config.HF_DATASETS_CACHE = cache


@pytest.fixture(scope="module")
def theirs(folder: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    evaluated: dict[str, Any] = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(ATLAS_MODEL), "dtype": "float32"},
        device="cpu",
        tasks=[*NAMES, "tiny_exam"],
        limit=LIMIT,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )
    return evaluated


def ours(name: str, folder: Path, *, model: Path = ATLAS_MODEL, chat: bool = False) -> tuple[TaskRef, list[Sample]]:
    ref = TaskRef(
        name=f"lm_eval:{name}",
        version=LmEval.version,
        data_language="en",
        target_language=None,
        limit=LIMIT,
        split=None,
        data="lm_eval",
        data_hash="",
        chat=chat,
    )
    ref = LmEval(ref.name).resolve(folder, ref)
    task = task_of(ref)

    async def all_samples() -> list[Sample]:
        engine = TransformersEngine(model)
        items = task.items(folder, ref, seed=0).items
        unsteered = TaskCalls(engine=engine, steering=None, seed=0)
        answered = [[await unsteered.answer(call) for call in item.calls] for item in items]
        await engine.close()
        return [task.sample(item, answers) for item, answers in zip(items, answered, strict=True)]

    return ref, asyncio.run(all_samples())


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_lm_eval(name: str, folder: Path, theirs: dict[str, Any]) -> None:
    ref, samples = ours(name, folder)
    table = pa.table({"measures": [sample.measures for sample in samples]})
    assert len(samples) == LIMIT
    for metric in task_of(ref).metrics:
        result = metric.evaluate(table, np.random.default_rng(0))
        assert result is not None
        key = metric.name if "," in metric.name else f"{metric.name},none"
        expected = theirs["results"][name][key]
        exact = metric.name.startswith(("acc", "exact_match", "chrf"))
        if exact:
            assert result.value == expected
        else:
            assert result.value == pytest.approx(expected, rel=1e-3)
    logged = theirs["samples"][name]
    for sample, entry in zip(samples, logged, strict=False):  # those of the first filter
        assert sample.doc_id == str(entry["doc_id"])
        if name == "tiny_until":
            assert sample.completion == entry["resps"][0][0]
            assert sample.prediction == entry["filtered_resps"][0]
            continue
        sums = sums_of(sample, pairs=name in ("tiny_choice", "tiny_likelihood"))
        expected_sums = [resp[0][0] if isinstance(resp[0], tuple) else resp[0] for resp in entry["resps"]]
        assert sums == pytest.approx([float(value) for value in expected_sums], abs=1e-3)


def test_the_scores_of_a_group_and_its_tasks_are_those_of_lm_eval(folder: Path, theirs: dict[str, Any]) -> None:
    ref, samples = ours("tiny_exam", folder)
    assert len(samples) == sum(min(size, LIMIT) for size in SIZES.values())
    table = pa.table({name: [getattr(sample, name) for sample in samples] for name in ("doc_id", "measures")})
    for metric in task_of(ref).metrics:
        assert isinstance(metric, SourcedMetric)
        result = metric.evaluate(table, np.random.default_rng(0))
        assert result is not None
        assert result.value == pytest.approx(theirs["groups"]["tiny_exam"][f"{metric.name},none"])
        for part in metric.by_source(table):
            name = part.name.partition(",")[2]
            of_task = part.evaluate(table, np.random.default_rng(0))
            assert of_task is not None
            assert of_task.value == pytest.approx(theirs["results"][name][f"{metric.name},none"])


def test_a_chat_whose_template_ends_with_a_space_is_scored_as_lm_eval_scores_it(folder: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = tmp_path / "model"
    shutil.copytree(ATLAS_MODEL, model)
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}Assistant: "
    (model / "chat_template.jinja").write_text(template)
    theirs: Any = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        device="cpu",
        tasks=["tiny_choice"],
        limit=LIMIT,
        bootstrap_iters=0,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )
    _, samples = ours("tiny_choice", folder, model=model, chat=True)
    assert [sample.error for sample in samples] == [None] * LIMIT
    for sample, entry in zip(samples, theirs["samples"]["tiny_choice"], strict=True):
        expected = [float(value) for ((value, _),) in entry["resps"]]
        assert sums_of(sample, pairs=True) == pytest.approx(expected, abs=1e-3)


def sums_of(sample: Sample, *, pairs: bool) -> list[float]:
    """The log-probabilities asked for, without those of what the model wrote where that was asked too."""
    ends = np.cumsum(sample.call_tokens)
    calls = [math.fsum(sample.logprobs[end - n : end]) for end, n in zip(ends, sample.call_tokens, strict=True)]
    return calls[::2] if pairs else calls
