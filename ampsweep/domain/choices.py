"""Closed sets of names that several packages share, and how messages list such names.

Imports nothing but the standard library, so that the help of commands can list the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Mode = Literal["corrected", "paper"]
"""Whether errors in the paper's published code are corrected or reproduced."""

EngineKind = Literal["vllm", "transformers", "fake"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)

Dtype = Literal["float32", "bfloat16", "float16"]
"""Data types in which weights are loaded."""
CaptureDtype = Literal["float16", "float32"]
"""How captured activations are stored. float16 has 11 bits of precision and no number above 65,504."""
CAPTURE_DTYPES: tuple[CaptureDtype, ...] = get_args(CaptureDtype)

Op = Literal["scale", "add", "set"]
"""The ops. `engine.steering.edits` holds the arithmetic of each."""
RecordedPatch = Literal["max", "median", "mean"]
Patch = Literal[RecordedPatch, "difference"]
Scope = Literal["all", "prompt", "generation"]
Selection = Literal["random", "other", "zero", "non_language"]
Vector = Literal["diffmean", "diffmean_raw"]
"""Vectors that are added to the residual stream. `engine.steering.vectors` computes them."""

OPS: tuple[Op, ...] = get_args(Op)
RECORDED_PATCHES: tuple[RecordedPatch, ...] = get_args(RecordedPatch)
"""The patch values that are recorded and stored. `difference` is computed from the means."""
PATCHES: tuple[Patch, ...] = get_args(Patch)
VECTORS: tuple[Vector, ...] = get_args(Vector)
FACTOR_OPS: tuple[Op, ...] = ("scale",)
"""Ops whose magnitude is always the factor. The other ops may also take a patch value or a statistic."""
VALUE_OPS: tuple[Op, ...] = tuple(op for op in OPS if op not in FACTOR_OPS)


def one_of(names: Sequence[str]) -> str:
    """Return the names as a sentence lists them.

    Example:
        >>> one_of(("scale", "add", "set")), one_of(("add",))
        ('scale, add or set', 'add')
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
