"""The layer of experts that is timed in a CUDA graph has compiled every kernel that the graph launches."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.kernels.expert_cost import Inputs, Shape, drawn, unfused
from engine.vllm.backends.base import NOTHING


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True


class Backend:
    """Notes what is asked of the CUDA backend."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        self.calls: list[tuple[Any, ...]] = []
        backends.append(self)

    def experts(self, layer: int) -> Any:
        return lambda *arguments: ("computed", layer, *arguments)

    def warm_up_experts(self, compute: Any, *, experts: int, each: int, dtype: torch.dtype) -> None:
        self.calls.append(("warm up", compute("x", "shares", "chosen"), experts, each, dtype))

    def begin_step(self, layout: object) -> None:
        self.calls.append(("begin step", layout))


backends: list[Backend] = []


def test_kernels_are_compiled_before_the_step_that_leaves_most_of_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("engine.vllm.backends.cuda")
    module.CudaBackend = Backend
    monkeypatch.setitem(sys.modules, module.__name__, module)
    shape = Shape(experts=4, each=2, hidden_size=8, width=4)
    inputs = drawn(shape, 3, dtype=torch.bfloat16, device=torch.device("cpu"))
    on_gpu = Inputs(**{**vars(inputs), "x": inputs.x.as_subclass(OnGpu)})
    run: Any = unfused(on_gpu)
    (backend,) = backends
    warm_up, begin = backend.calls
    assert warm_up[0] == "warm up"
    assert warm_up[1] == ("computed", 0, "x", inputs.w13, inputs.w2, "shares", "chosen")
    assert warm_up[2:] == (4, 2, torch.bfloat16)
    assert begin == ("begin step", NOTHING)
    assert run()[:2] == ("computed", 0)
