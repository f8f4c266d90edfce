"""The memory of steering counts as the model's, so that vLLM does not give it to the KV cache."""

from __future__ import annotations

from types import SimpleNamespace

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
