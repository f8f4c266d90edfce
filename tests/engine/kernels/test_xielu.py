"""The constants of xIELU are read from the modules of Transformers, and give what those modules compute."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers.activations import XIELUActivation

from engine.kernels.xielu import Xielu


@pytest.fixture
def learned() -> XIELUActivation:
    """Return a module with constants that differ from the initial ones."""
    module = XIELUActivation(dtype=torch.float64)
    with torch.no_grad():
        module.alpha_p.fill_(-0.3)
        module.alpha_n.fill_(0.9)
    return module


def test_the_function_is_that_of_transformers(learned: XIELUActivation) -> None:
    x = torch.linspace(-9, 9, 401, dtype=torch.float64)
    torch.testing.assert_close(Xielu.of(learned)(x), learned(x), rtol=0, atol=3e-6)


def test_constants_stored_in_bfloat16_are_not_rounded_again(learned: XIELUActivation) -> None:
    stored = learned.to(torch.bfloat16)
    constants, alpha_p = Xielu.of(stored).constants, stored.alpha_p.detach()
    assert constants.beta == 0.5
    assert constants.alpha_p == pytest.approx(float(functional.softplus(alpha_p.double())))
    assert constants.alpha_p != float(functional.softplus(alpha_p))


def test_16_bits_are_rounded_once(learned: XIELUActivation) -> None:
    function = Xielu.of(learned)
    x = torch.linspace(-4, 4, 101).bfloat16()
    assert torch.equal(function(x), function(x.float()).bfloat16())
