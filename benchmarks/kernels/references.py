"""References for the steering kernel: three implementations of an unsteered SiLU-and-multiply, and a device copy."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch.nn import functional

Reference = Callable[[torch.Tensor, torch.Tensor], None]
"""Writes silu(gate) * up of `x` [T, 2F] into `out` [T, F]: called with out, x."""


def references() -> dict[str, Reference]:
    """Return a plain Triton kernel, torch.compile and, if vLLM is installed, its operator."""
    torch.compiler.reset()
    by_name: dict[str, Reference] = {"triton": plain_triton, "torch.compile": torch.compile(_torch, dynamic=False)}
    if importlib.util.find_spec("vllm") is not None:
        importlib.import_module("vllm._custom_ops")
        by_name["vllm"] = torch.ops._C.silu_and_mul  # noqa: SLF001 - the name of vLLM's library
    return by_name


def plain_triton(out: torch.Tensor, x: torch.Tensor) -> None:
    """Run only the dense part of the steering kernel, with the same blocks."""
    tokens, width = out.shape
    blocks = triton.cdiv(width, 1024)
    _silu_and_mul[(tokens * blocks,)](out, x, width=width, blocks=blocks, block=1024, num_warps=4)


def copy(x: list[torch.Tensor], index: int) -> None:
    """Copy as many bytes, read and written, as one launch moves: from one buffer to one that was not used recently."""
    elements = x[index].numel() * 3 // 4
    x[(index + len(x) // 2) % len(x)].view(-1)[:elements].copy_(x[index].view(-1)[:elements])


def _torch(out: torch.Tensor, x: torch.Tensor) -> None:
    gate, up = x.chunk(2, dim=-1)
    out.copy_(functional.silu(gate.float()) * up.float())


@triton.jit  # type: ignore[untyped-decorator]
def _silu_and_mul(out: tl.tensor, x: tl.tensor, width: tl.constexpr, blocks: tl.constexpr, block: tl.constexpr) -> None:
    token = (tl.program_id(0) // blocks).to(tl.int64)
    column = tl.program_id(0) % blocks * block + tl.arange(0, block)
    inside = column < width
    gate = tl.load(x + token * (2 * width) + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + token * (2 * width) + width + column, mask=inside, other=0.0).to(tl.float32)
    value = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + token * width + column, value.to(out.dtype.element_ty), mask=inside)
