"""lm-eval as a client of the server scores as our own `lm_eval:` tasks do."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import pytest

from ampsweep.bundled import ATLAS_MODEL
from tests.ampsweep.client.server_process import server_running
from tests.jobs.tasks.lm_eval.tiny_tasks import write_tasks
from tests.worker.test_lm_eval import LIMIT, ours, sums_of

pytestmark = pytest.mark.processes

TASKS = ("tiny_choice", "tiny_likelihood")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return write_tasks(tmp_path / "own" / "tasks")


@pytest.fixture(autouse=True)
def _retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for tenacity, with which lm-eval repeats failed requests, where it is not installed."""
    if find_spec("tenacity") is not None:
        return
    tenacity: Any = ModuleType("tenacity")
    tenacity.__spec__ = ModuleSpec("tenacity", None)
    tenacity.RetryError = RuntimeError
    tenacity.retry = lambda **_: lambda call: call
    tenacity.stop_after_attempt = tenacity.wait_exponential = lambda *_, **__: None
    monkeypatch.setitem(sys.modules, "tenacity", tenacity)


def test_local_completions_score_the_prompts_that_the_server_echoes(folder: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with server_running("atlas", tmp_path / "home", "--engine", "transformers") as server:
        evaluated: Any = simple_evaluate(
            model="local-completions",
            model_args={
                "model": "atlas",
                "base_url": f"{server.url}/v1/completions",
                "tokenizer_backend": "huggingface",
                "tokenizer": str(ATLAS_MODEL),
                "max_length": 256,
            },
            tasks=list(TASKS),
            limit=LIMIT,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        )
    for name in TASKS:
        _, samples = ours(name, folder)
        for sample, entry in zip(samples, evaluated["samples"][name], strict=True):
            theirs = [float(response[0][0]) for response in entry["resps"]]
            assert theirs == pytest.approx(sums_of(sample, pairs=True), abs=1e-3)
