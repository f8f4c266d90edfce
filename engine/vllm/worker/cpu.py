"""The worker class that vLLM loads by name on a machine without a GPU."""

from __future__ import annotations

from vllm.distributed.parallel_state import get_pp_group
from vllm.v1.worker.cpu_worker import CPUWorker

from engine.vllm.options import SteeringOptions
from engine.vllm.worker import stale_blocks
from engine.vllm.worker.base import SteeringWorkerMixin
from engine.vllm.worker.model import experts

experts.install()


class SteeringCPUWorker(SteeringWorkerMixin, CPUWorker):  # type: ignore[misc]
    """vLLM's CPU worker, steered."""

    def determine_available_memory(self) -> int:
        """Return the bytes for the KV cache. With pipeline parallelism, run the model once before.

        The tensors that pass between pipeline stages are allocated in a profiling run, which an eager CPU worker would
        skip.
        """
        if self.vllm_config.parallel_config.pipeline_parallel_size > 1:
            self.model_runner.profile_run()
        available: int = super().determine_available_memory()
        return available

    def _install(self, options: SteeringOptions) -> None:
        """Put steering into the loaded model, and keep what an overflow leaves behind out of later requests."""
        super()._install(options)
        if not self.vllm_config.use_v2_model_runner:  # which vLLM does not run on a CPU
            stale_blocks.attach(self.model_runner, every_step=not get_pp_group().is_last_rank)
