"""The Triton kernels, compiled on a machine with CUDA and interpreted elsewhere.

Importing this module skips the importing test module if Triton is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from engine.kernels.activation import ActivationName
from tests.engine.kernels.rows import constants_of

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_interpreter(patch: pytest.MonkeyPatch) -> None:
    """Let Triton interpret kernels if there is no CUDA. It reads the setting when a kernel is defined and run."""
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")


def layer_index(layer: int) -> torch.Tensor:
    """Return a layer's index as the kernels take it."""
    return torch.tensor(layer, dtype=torch.int32, device=DEVICE)


def multiply_bfloat16() -> None:
    """Let the interpreter multiply matrices of bfloat16, whose bit patterns it would take for integers."""
    import triton.language as tl
    from triton.runtime import interpreter

    multiply = interpreter.InterpreterBuilder.create_dot

    def widened(matrix: Any) -> Any:
        if matrix.dtype.scalar != tl.bfloat16:
            return matrix
        return interpreter.TensorHandle((matrix.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot(builder: Any, left: Any, right: Any, *rest: Any) -> Any:
        return multiply(builder, widened(left), widened(right), *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot


multiply_bfloat16()
with pytest.MonkeyPatch.context() as _patch:
    use_interpreter(_patch)
    grouped_product_triton = importlib.import_module("engine.kernels.cuda.grouped_product_triton")
    steer_triton = importlib.import_module("engine.kernels.cuda.steer_triton")
    statistic_triton = importlib.import_module("engine.kernels.cuda.statistic_triton")
    record_triton = importlib.import_module("engine.kernels.cuda.record_triton")
    residual_triton = importlib.import_module("engine.kernels.cuda.residual_triton")


def kernel_constants(name: ActivationName) -> torch.Tensor | None:
    """Return the constants of an activation function as kernels take them."""
    constants = constants_of(name)
    return torch.tensor(constants, dtype=torch.float32, device=DEVICE) if constants else None
