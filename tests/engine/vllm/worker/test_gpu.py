"""What the GPU worker does before and after vLLM loads the model."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.vllm.options import SteeringOptions

pytestmark = pytest.mark.engine


def test_what_steering_allocates_is_added_to_the_memory_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.vllm.worker.base import SteeringWorkerMixin
    from engine.vllm.worker.gpu import SteeringGPUWorker

    allocated = {"bytes": 100}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: allocated["bytes"])
    monkeypatch.setattr(SteeringWorkerMixin, "_install", lambda _self, _options: allocated.update(bytes=350))
    worker = SteeringGPUWorker.__new__(SteeringGPUWorker)
    worker.device = torch.device("cuda")
    worker.model_runner = SimpleNamespace(model_memory_usage=1000)
    worker._install(SteeringOptions(slots=1, backend="cuda"))
    assert worker.model_runner.model_memory_usage == 1250


@pytest.mark.parametrize("unfused", [False, True])
def test_the_form_of_the_experts_is_chosen_before_the_model_is_loaded(
    unfused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.vllm.worker import gpu
    from engine.vllm.worker.base import SteeringWorkerMixin
    from engine.vllm.worker.model import experts

    done: list[str] = []
    monkeypatch.setattr(experts, "install", lambda: done.append("unfused"))
    monkeypatch.setattr(SteeringWorkerMixin, "load_model", lambda *_arguments, **_options: done.append("loaded"))
    worker: Any = gpu.SteeringGPUWorker.__new__(gpu.SteeringGPUWorker)
    options = asdict(SteeringOptions(slots=1, backend="cuda", unfused_experts=unfused))
    worker.vllm_config = SimpleNamespace(additional_config={"ampsweep": options})
    worker.load_model()
    assert done == (["unfused", "loaded"] if unfused else ["loaded"])
