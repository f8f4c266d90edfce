"""The worker class that vLLM loads by name on CUDA."""

from __future__ import annotations

from vllm.v1.worker.gpu_worker import Worker

from engine.vllm.worker.base import SteeringWorkerMixin


class SteeringGPUWorker(SteeringWorkerMixin, Worker):  # type: ignore[misc]
    """vLLM's GPU worker, steered."""
