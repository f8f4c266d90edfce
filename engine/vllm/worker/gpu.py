"""The worker class that vLLM loads by name on CUDA."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.worker.gpu_worker import Worker

from engine.vllm.options import SteeringOptions
from engine.vllm.worker.base import SteeringWorkerMixin
from engine.vllm.worker.model import experts


class SteeringGPUWorker(SteeringWorkerMixin, Worker):  # type: ignore[misc]
    """vLLM's GPU worker, steered."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, whose experts are computed without vLLM's fused kernel if the options say so."""
        if SteeringOptions(**self.vllm_config.additional_config["ampsweep"]).unfused_experts:
            experts.install()
        super().load_model(*args, **kwargs)

    def _install(self, options: SteeringOptions) -> None:
        """Put steering into the loaded model, and count its memory as the model's.

        vLLM 0.25 plans the KV cache with what it measured while it loaded the model; newer releases use free memory.
        """
        before = torch.cuda.memory_allocated(self.device)
        super()._install(options)
        self.model_runner.model_memory_usage += torch.cuda.memory_allocated(self.device) - before
