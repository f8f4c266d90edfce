"""Skips tests of several workers on machines with too few GPUs."""

from __future__ import annotations

import pytest
import torch


def needs_gpus(count: int) -> pytest.MarkDecorator:
    """Skip a test on a machine that has GPUs, but fewer than `count`: with GPUs, vLLM takes one for each worker."""
    return pytest.mark.skipif(0 < torch.cuda.device_count() < count, reason=f"needs {count} GPUs, or none")
