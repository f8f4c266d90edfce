"""Compares the activation functions in torch with float64 and with the modules of Transformers."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from benchmarks.kernels.float64_activation import activation_in_float64
from engine.kernels.activation import ActivationName, MlpForm, activate
from tests.engine.kernels.rows import constants_of

IN_TRANSFORMERS = {"gelu_tanh": "gelu_pytorch_tanh"}
X = torch.linspace(-12, 12, 1001, dtype=torch.float64)


@pytest.mark.parametrize("name", get_args(ActivationName))
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float32, 1e-5, 1e-6), (torch.bfloat16, 2e-2, 1e-3), (torch.float16, 3e-3, 1e-4)]
)
def test_an_activation_agrees_with_float64(name: ActivationName, dtype: torch.dtype, rtol: float, atol: float) -> None:
    x = X.to(dtype)
    result = activate(name, x, constants_of(name))
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), activation_in_float64(x, name), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", [name for name in get_args(ActivationName) if name != "xielu"])
def test_the_functions_are_those_of_transformers(name: ActivationName) -> None:
    module: nn.Module = ACT2FN[IN_TRANSFORMERS.get(name, name)]
    torch.testing.assert_close(activation_in_float64(X, name), module(X))


@pytest.mark.parametrize("name", [name for name in get_args(ActivationName) if name != "xielu"])
def test_an_activation_that_may_have_a_gate_is_positive_where_its_input_is(name: ActivationName) -> None:
    MlpForm(activation=name, gated=True)
    assert torch.equal(activate(name, X) > 0, X > 0)


def test_xielu_may_not_have_a_gate_because_it_is_positive_far_below_0_too() -> None:
    assert activate("xielu", X, constants_of("xielu"))[0] > 0
    with pytest.raises(AssertionError):
        MlpForm(activation="xielu", gated=True, constants=constants_of("xielu"))
