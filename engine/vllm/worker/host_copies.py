"""Copies between a device and host memory for which the host does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor in host memory to a device without waiting for what runs there."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def to_host(values: torch.Tensor) -> tuple[torch.Tensor, Callable[[], object]]:
    """Copy values to host memory without waiting for the device; return the copy, and what waits for it."""
    if not values.is_cuda:
        return values, lambda: None
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    copied: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return copy, copied.synchronize
