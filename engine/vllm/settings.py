"""How an engine of vLLM is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.vllm.options import BackendName

RunnerName = Literal["v1", "v2"]
"""vLLM's model runners."""


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """How an engine is run. None leaves a value to vLLM or to the device.

    Attributes:
        slots: Most distinct interventions in flight.
        max_model_len: Context length in tokens; None is the model's own.
        max_num_seqs: Most requests in a batch.
        max_num_batched_tokens: Most tokens in a step.
        block_size: Tokens of a prefix-cache block, the least that requests can share. None is vLLM's default on a GPU,
            and on a CPU the smallest size that it accepts, 32 instead of 128.
        kv_cache_bytes: Memory of the KV cache; None is a share of the GPU's memory, and 1 GiB on a CPU.
        tensor_parallel_size: Workers that share each layer.
        pipeline_parallel_size: Groups of workers that the layers are divided among.
        compile: Use torch.compile, and CUDA graphs with the CUDA backend.
        backend: The steering backend; None is the one for the device.
        runner: vLLM's model runner; None is the default.
        prefix_caching: Whether requests share the KV cache of equal prefixes.
        batch_invariant: Whether vLLM runs in its batch-invariant mode, in which the other requests of a batch do not
            change the rounding of an answer. It is slower, and only for GPUs.
        async_scheduling: Whether vLLM schedules a step while the one before still runs; None leaves it to vLLM, which
            does so on GPUs. See docs/adr/0008-async-scheduling.md.
        unfused_experts: Whether the experts of a mixture are computed without vLLM's fused kernel on a GPU, so that
            they can be steered. On a CPU they always are. See docs/adr/0007-unfused-experts.md.
        allow_untested: Whether a vLLM release may be run with which the patch was not tested.
        adapters: The folders of LoRA adapters that requests may name.
        tool_call_parser: vLLM's parser of tool calls; None chooses it by the chat template, `none` leaves calls in the
            text.
    """

    slots: int = 256
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    kv_cache_bytes: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    compile: bool = True
    backend: BackendName | None = None
    runner: RunnerName | None = None
    prefix_caching: bool = True
    batch_invariant: bool = False
    async_scheduling: bool | None = None
    unfused_experts: bool = False
    allow_untested: bool = False
    adapters: Mapping[str, Path] = field(default_factory=dict)
    tool_call_parser: str | None = None

    @property
    def workers(self) -> int:
        """How many workers, each with its own device, the model is divided among."""
        return self.tensor_parallel_size * self.pipeline_parallel_size
