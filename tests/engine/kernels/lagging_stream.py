"""A device that lags behind its host: it runs what is queued on its stream only when the test says so.

Every operation that writes to a tensor of the device is put off, with its arguments as they are, not copied. So host
memory that is reused too early, or a write that overtakes a step, changes a result, as it would on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LaggingStream(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Puts off all operations on tensors that share memory with a device's, within the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue: list[Callable[[], Any]] = []
        self._storages: set[int] = set()
        self._running = False

    def own(self, *tensors: torch.Tensor) -> None:
        """Count tensors as the device's."""
        self._storages.update(tensor.untyped_storage().data_ptr() for tensor in tensors)

    def launch(self, kernel: Callable[[], None]) -> None:
        """Queue a kernel, which reads the device when it runs."""
        self._queue.append(kernel)

    @property
    def queued(self) -> int:
        """How many operations have not run yet."""
        return len(self._queue)

    def synchronize(self) -> None:
        """Run all that is queued, in order."""
        queue, self._queue = self._queue, []
        self._running = True
        for operation in queue:
            operation()
        self._running = False

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
        on_device = any(tensor.untyped_storage().data_ptr() in self._storages for tensor in tensors)
        if self._running or not on_device or func.is_view:
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            self._queue.append(lambda: func(*args, **kwargs))
            return args[0]
        result = torch.empty_like(func(*args, **kwargs))
        self.own(result)
        self._queue.append(lambda: result.copy_(func(*args, **kwargs)))
        return result
