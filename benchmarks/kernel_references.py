"""What the steering kernel is measured against: unsteered SiLU-and-multiply, three ways, and a device copy."""

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
    """Return what this machine has: a plain Triton kernel and torch.compile always, vLLM's operator if installed."""
    torch.compiler.reset()
    found: dict[str, Reference] = {"triton": plain_triton, "torch.compile": torch.compile(_torch, dynamic=False)}
    if importlib.util.find_spec("vllm") is not None:
        importlib.import_module("vllm._custom_ops")
        found["vllm"] = torch.ops._C.silu_and_mul  # noqa: SLF001 - vLLM names its library so
    return found


def plain_triton(out: torch.Tensor, x: torch.Tensor) -> None:
    """Run the steering kernel's dense part alone, in the same blocks."""
    tokens, width = out.shape
    blocks = triton.cdiv(width, 1024)
    _silu_and_mul[(tokens * blocks,)](out, x, width=width, blocks=blocks, block=1024, num_warps=4)


def copy(x: list[torch.Tensor], at: int) -> None:
    """Move as many bytes as one launch does, half of them read: from one buffer into one not used for a while."""
    elements = x[at].numel() * 3 // 4
    x[(at + len(x) // 2) % len(x)].view(-1)[:elements].copy_(x[at].view(-1)[:elements])


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
