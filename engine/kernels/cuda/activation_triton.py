"""Activation functions in float32 for Triton kernels; all kernels share this definition."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def activate(x: tl.tensor, name: tl.constexpr, constants: tl.tensor) -> tl.tensor:
    """Return the activation of `x`, both float32; only xIELU reads `constants`, float32 [3].

    The tanh form of GELU, x * (1 + tanh(z)) / 2 with z = sqrt(2 / pi) * (x + 0.044715 x^3), is x * sigmoid(2 z).
    """
    if name == "silu":
        value = x / (1.0 + tl.exp(-x))
    elif name == "relu":
        value = tl.maximum(x, 0.0)
    elif name == "relu2":
        value = tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    elif name == "gelu":
        value = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif name == "quick_gelu":
        value = x / (1.0 + tl.exp(-1.702 * x))
    elif name == "gelu_tanh":
        value = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    else:
        tl.static_assert(name == "xielu")
        alpha_p, alpha_n, beta = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
        negative = tl.minimum(x, 0.0)
        value = tl.where(x > 0, alpha_p * x * x, alpha_n * (_expm1(negative) - negative)) + beta * x
    return value


@triton.jit  # type: ignore[untyped-decorator]
def _expm1(x: tl.tensor) -> tl.tensor:
    """Return exp(x) - 1 for x <= 0; near 0, where the difference would cancel, by the Taylor series."""
    series = x * (1.0 + x * (1.0 / 2 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120)))))
    return tl.where(x > -0.1, series, tl.exp(x) - 1.0)
