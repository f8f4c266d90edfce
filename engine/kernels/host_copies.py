"""Copies between a device and host memory for which the host does not wait.

PyTorch does not use pinned memory again until the copies from it, and into it, have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the host in pinned memory, so that the host need not wait while a GPU copies it."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor in host memory to a device, on the current stream."""
    return pinned(tensor, device).to(device, non_blocking=True)


def write(target: torch.Tensor, values: torch.Tensor) -> None:
    """Copy values in host memory into a tensor of a device, on the current stream."""
    target.copy_(pinned(values, target.device), non_blocking=True)


def to_host(values: torch.Tensor) -> tuple[torch.Tensor, Callable[[], object]]:
    """Copy values to host memory on the current stream; return the copy, and what waits until it is complete."""
    if not values.is_cuda:
        return values, lambda: None
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    copied: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return copy, copied.synchronize
