"""Rejects quantized weights that vLLM cannot run here, before it loads them.

vLLM itself would fail late: in a worker, or for 4-bit weights without AVX-512 only at the first step. On a GPU only the
dtype is checked, and vLLM decides about everything else.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from ampsweep.errors import UnsupportedModel
from engine.quantization import Quantization, Scheme

_ONLY_16_BITS = ("awq", "gptq", "fp8")
"""Methods that vLLM computes in 16 bits only."""
_ON_GPU = "use a GPU, or a checkpoint without quantization or in compressed-tensors' FP8 with a scale for each output"


@dataclass(frozen=True, kw_only=True)
class CpuKernels:
    """Which kernels for quantized weights vLLM's CPU build has on a processor.

    Attributes:
        int4: Weights of 4 bits; on x86-64 they need AVX-512.
        int8: Weights and inputs of 8-bit integers; without VNNI, their kernel on x86-64 overflows 16-bit sums.
        amx: Those that need AMX: weights of 8-bit floats with a scale for a block, and another kernel for 8-bit
            integers, which vLLM prefers.
    """

    int4: bool
    int8: bool
    amx: bool

    @classmethod
    def of_this_machine(cls) -> CpuKernels:
        """Read the features of this machine's processor, as vLLM does when it chooses its kernels."""
        x86 = platform.machine() == "x86_64"
        return cls(
            int4=x86 and torch.cpu._is_avx512_supported(),  # noqa: SLF001
            int8=not x86 or torch.cpu._is_vnni_supported(),  # noqa: SLF001
            amx=x86 and torch.cpu._is_amx_tile_supported(),  # noqa: SLF001
        )


def check_quantization(quantization: Quantization, *, dtype: str, cpu: CpuKernels | None) -> None:
    """Check that vLLM can run a model with quantized weights here.

    Args:
        quantization: How the weights are quantized.
        dtype: The dtype in which the engine computes.
        cpu: The kernels of the CPU build; None on a GPU.

    Raises:
        UnsupportedModel: It cannot; the message names the format, the reason and what to do (param "model").
    """
    reason = None if cpu is None else _reason_on_cpu(quantization, cpu)
    if reason is None and dtype == "float32" and _is_16_bits_only(quantization, cpu):
        reason = "vLLM computes them in 16 bits only; choose --dtype bfloat16"
    if reason is not None:
        raise UnsupportedModel(f"the weights of the model are quantized with {quantization}: {reason}", param="model")


def _is_16_bits_only(quantization: Quantization, cpu: CpuKernels | None) -> bool:
    """Return whether vLLM computes quantized weights in 16 bits only.

    The CPU build's kernel for weights of 4 bits does, and its kernel with AMX for 8-bit integers. vLLM uses the latter
    only for some shapes of projections, which models for practical use have.
    """
    if cpu is None or quantization.method in _ONLY_16_BITS:
        return quantization.method in _ONLY_16_BITS
    return any(not scheme.floating and (scheme.bits == 4 or cpu.amx) for scheme in quantization.schemes)


def _reason_on_cpu(quantization: Quantization, cpu: CpuKernels) -> str | None:
    """Return why the CPU build cannot run quantized weights, None if it can."""
    if not quantization.schemes:
        return f"vLLM has no kernel for them on a CPU; {_ON_GPU}"
    if quantization.ordered:
        return f"vLLM does not support groups in the order of activations (desc_act, actorder) on a CPU; {_ON_GPU}"
    if quantization.method == "gptq" and not quantization.symmetric:
        return f"vLLM supports only symmetric integers of GPTQ (sym) on a CPU; {_ON_GPU}"
    return next(filter(None, (_reason_for_scheme(scheme, cpu) for scheme in quantization.schemes)), None)


def _reason_for_floats(scheme: Scheme, cpu: CpuKernels) -> str | None:
    if scheme.grouping == "tensor":
        return f"vLLM's CPU build cannot give the joined projections of a layer one scale; {_ON_GPU}"
    if scheme.grouping == "block" and not cpu.amx:
        return f"their kernel for blocks needs a processor with AMX; {_ON_GPU}"
    return None


def _reason_for_scheme(scheme: Scheme, cpu: CpuKernels) -> str | None:
    if scheme.bits == scheme.input_bits == 8:
        if scheme.floating:
            return _reason_for_floats(scheme, cpu)
        if scheme.grouping in ("tensor", "channel"):
            return (
                None
                if cpu.int8
                else f"without VNNI, their kernel's sums overflow, and its results are wrong; {_ON_GPU}"
            )
    if scheme.bits == 4 and not scheme.floating and scheme.input_bits is None:
        return None if cpu.int4 else f"their kernel needs a processor with AVX-512; {_ON_GPU}"
    return f"vLLM has no kernel for them on a CPU; {_ON_GPU}"
