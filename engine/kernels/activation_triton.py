"""Activation functions in float32 for Triton kernels; all kernels share this definition."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def activate(x: tl.tensor, name: tl.constexpr) -> tl.tensor:
    """Return the activation of `x`, both float32.

    The tanh form of GELU, x * (1 + tanh(z)) / 2 with z = sqrt(2 / pi) * (x + 0.044715 x^3), is x * sigmoid(2 z).
    """
    if name == "silu":
        value = x / (1.0 + tl.exp(-x))
    elif name == "relu":
        value = tl.maximum(x, 0.0)
    elif name == "gelu":
        value = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    else:
        tl.static_assert(name == "gelu_tanh")
        value = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    return value
