"""Lets vLLM schedule a step on a CPU before it has read the answer of the one before, which it does on GPUs only."""

from __future__ import annotations

from typing import Any

import pytest


def schedule_ahead(patch: pytest.MonkeyPatch) -> None:
    """Let engines that are configured from now on schedule ahead. Streams and events of CUDA need stand-ins."""
    from vllm.platforms.cpu import CpuPlatform

    configure: Any = CpuPlatform.check_and_update_config.__func__

    def ahead(cls: Any, vllm_config: Any) -> None:
        configure(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    patch.setattr(CpuPlatform, "check_and_update_config", classmethod(ahead))
