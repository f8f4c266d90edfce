"""The worker class that vLLM loads by name on a machine without a GPU."""

from __future__ import annotations

from vllm.v1.worker.cpu_worker import CPUWorker

from engine.vllm_patch.worker import SteeringWorkerMixin


class SteeringCPUWorker(SteeringWorkerMixin, CPUWorker):  # type: ignore[misc]
    """vLLM's CPU worker, steered."""
