"""The Triton kernels as this machine can run them: compiled where there is CUDA, interpreted elsewhere.

Importing it skips the importing test module where Triton is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_interpreter(patch: pytest.MonkeyPatch) -> None:
    """Let Triton interpret kernels, where there is no CUDA; it asks when they are defined, and again when they run."""
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")


with pytest.MonkeyPatch.context() as _patch:
    use_interpreter(_patch)
    steer_triton = importlib.import_module("engine.kernels.steer_triton")
    statistic_triton = importlib.import_module("engine.kernels.statistic_triton")
    record_triton = importlib.import_module("engine.kernels.record_triton")
