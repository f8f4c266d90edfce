"""The worker class that vLLM loads by name on CUDA."""

from __future__ import annotations

import torch
from vllm.v1.worker.gpu_worker import Worker

from engine.vllm.options import SteeringOptions
from engine.vllm.worker.base import SteeringWorkerMixin


class SteeringGPUWorker(SteeringWorkerMixin, Worker):  # type: ignore[misc]
    """vLLM's GPU worker, steered."""

    def _install(self, options: SteeringOptions) -> None:
        """Put steering into the loaded model, and count its memory as the model's.

        vLLM 0.25 plans the KV cache with what it measured while it loaded the model; newer releases use free memory.
        """
        before = torch.cuda.memory_allocated(self.device)
        super()._install(options)
        self.model_runner.model_memory_usage += torch.cuda.memory_allocated(self.device) - before
