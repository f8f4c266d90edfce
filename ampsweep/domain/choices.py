"""Closed sets of names that several packages share, and how messages list such names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Mode = Literal["corrected", "paper"]
"""Whether errors in the paper's published code are corrected or reproduced."""

EngineKind = Literal["vllm", "transformers", "fake"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)

Dtype = Literal["float32", "bfloat16", "float16"]
"""Data types in which weights are loaded."""


def one_of(names: Sequence[str]) -> str:
    """Return the names as a sentence lists them.

    Example:
        >>> one_of(("scale", "add", "set")), one_of(("add",))
        ('scale, add or set', 'add')
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
