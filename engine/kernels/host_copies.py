"""Copies between a device and host memory for which the host does not wait.

PyTorch does not use pinned memory again until the copies from it, and into it, have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


class SideReads:
    """Reads tensors of a device without waiting for what is queued on its current stream after a mark.

    Args:
        device: Where the tensors are; on a CPU nothing is queued.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = None
        if device.type == "cuda":  # its programs are few, and take their turn before those of a running step
            self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def mark(self) -> Any:
        """Return a mark after all that is queued on the current stream."""
        if self._stream is None:
            return None
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def read(self, values: Callable[[], Iterable[torch.Tensor]], *, after: Iterable[Any]) -> Sequence[torch.Tensor]:
        """Compute values and copy them to host memory, and wait for that.

        Args:
            values: Computes them. Nothing that is queued after the marks may write to what it reads.
            after: The marks.
        """
        if self._stream is None:
            return [*values()]
        for mark in after:
            self._stream.wait_event(mark)
        with torch.cuda.stream(self._stream):
            copies = [to_host(each) for each in values()]
        for _, wait in copies:
            wait()
        return [copy for copy, _ in copies]
