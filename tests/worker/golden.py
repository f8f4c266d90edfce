"""Answers of the `transformers` engine to a few real items of each task, kept in `golden/`, and how to make them anew.

    AMPSWEEP_TEST_DATA=... python -m tests.worker.golden

The files hold numbers and what the model wrote, none of the data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.bundled import ATLAS_FOLDER, ATLAS_MODEL
from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.mixed_load import random_neurons
from engine.base import Engine, Steering
from engine.hf.engine import TransformersEngine
from jobs.cell import TaskRef
from jobs.sample import Sample
from jobs.tasks.loading import complete
from jobs.tasks.registry import task_of
from tests.jobs.tasks.real_data import DATA
from worker.task_calls import TaskCalls

FOLDER = Path(__file__).parent / "golden"
LIMIT = 6
STEERED: Mapping[str, Any] = {"languages": ["tr"], "op": "scale", "factor": 2.0}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task on the first items of a real data set."""

    task: str
    language: str
    split: str | None = None
    target: str | None = None
    mode: Mode = "corrected"

    @property
    def name(self) -> str:
        return f"{self.task}.{self.language}" + (".paper" if self.mode == "paper" else "")

    @property
    def data(self) -> Path:
        return ATLAS_FOLDER if self.task == "lss" else DATA / task_of(self.ref).default_data

    @property
    def ref(self) -> TaskRef:
        return TaskRef(
            name=self.task,
            version=1,
            data_language=self.language,
            target_language=self.target,
            limit=LIMIT,
            split=self.split,
            data=None,
            data_hash="",
            mode=self.mode,
        )

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"


CASES = (
    Case(task="lss", language="zh", target="tr"),
    Case(task="lss", language="zh", target="tr", mode="paper"),
    Case(task="xcopa", language="it", split="test"),
    Case(task="xcopa", language="tr", split="test", mode="paper"),
    Case(task="xwinograd", language="fr"),
    Case(task="include", language="tr"),
    Case(task="perplexity", language="ja", split="devtest"),
    Case(task="flores", language="fr", split="devtest"),
    Case(task="flores_untargeted", language="tr", split="devtest", mode="paper"),
    Case(task="generation", language="ru", split="devtest"),
)


async def answers(case: Case, engine: Engine) -> dict[str, Any]:
    """Return the samples of a case as JSON, of the model as it is and steered."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    steering = Steering(intervention=Intervention.from_dict(dict(STEERED)), neurons=neurons.id)
    plain, steered = await _samples(case, engine, None), await _samples(case, engine, steering)
    return {"model": engine.info.fingerprint, "unsteered": plain, "steered": steered}


async def _samples(case: Case, engine: Engine, steering: Steering | None) -> list[dict[str, Any]]:
    task = task_of(case.ref, steered=steering is not None)
    task_calls = TaskCalls(engine=engine, steering=steering, seed=0)
    samples = []
    for item in (complete(item, case.ref) for item in task.items(case.data, case.ref, seed=0).items):
        answers = await asyncio.gather(*map(task_calls.answer, item.calls))
        samples.append(_plain(task.sample(item, answers)))
    return samples


def _plain(sample: Sample) -> dict[str, Any]:
    ends = [sum(sample.call_tokens[: index + 1]) for index in range(len(sample.call_tokens))]
    sums = [sum(sample.logprobs[end - n : end]) for end, n in zip(ends, sample.call_tokens, strict=True)]
    return {
        "doc_id": sample.doc_id,
        "sums": [round(value, 5) for value in sums],
        "score": None if sample.score is None else round(sample.score, 5),
        "prediction": sample.prediction,
        "correct": sample.correct,
        "completion": sample.completion,
        "error": sample.error,
    }


async def write() -> None:
    engine = TransformersEngine(ATLAS_MODEL)
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        text = json.dumps(await answers(case, engine), ensure_ascii=False, indent=1, sort_keys=True)
        case.file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(write())
