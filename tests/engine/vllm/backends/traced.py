"""Traces a module with torch.compile, without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def traced_code(module: nn.Module, *inputs: torch.Tensor | None) -> str:
    """Return the code of the module's graph: its parameters and buffers are arguments, its numbers constants."""
    codes: list[str] = []

    def record(graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., list[torch.Tensor]]:
        codes.append(graph.code)
        outputs: Any = graph.graph.output_node().args[0]
        shapes = [output.meta["example_value"].shape for output in outputs]
        return lambda *_: [torch.empty(shape) for shape in shapes]

    torch.compiler.reset()
    torch.compile(module, backend=record, fullgraph=True)(*inputs)
    (code,) = codes
    return code
