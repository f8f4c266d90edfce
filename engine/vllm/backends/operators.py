"""Defines the custom operators of the backends, `torch.ops.ampsweep.*`, which torch.compile does not look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def define_operator(schema: str, run: Callable[..., Any], trace: Callable[..., Any]) -> Any:
    """Define an operator for CPUs and GPUs.

    Args:
        schema: Its name, arguments and result, as `torch.library` writes them.
        run: Computes it.
        trace: Returns a result of the same shape; all that tracing needs.

    Returns:
        The library. The operator exists as long as it is referenced.
    """
    library: Any = torch.library.Library("ampsweep", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(schema)
    name = schema.partition("(")[0]
    for key, function in (("CPU", run), ("CUDA", run), ("Meta", trace)):
        library.impl(name, function, key)
    return library


def trace_nothing(*_arguments: Any) -> None:
    """Do nothing, for an operator that returns nothing."""


def trace_like_input(x: torch.Tensor, *_arguments: Any, **_optional: Any) -> torch.Tensor:
    """Return a tensor of the shape of the first argument."""
    return torch.empty_like(x)
