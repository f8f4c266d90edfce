"""The modules of the CPU backend trace to one graph for all layers, so that a compiler's cache can share it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.kernels.xielu import Xielu, XieluConstants
from engine.vllm.backends.activation import SteeredActivation
from engine.vllm.backends.residual import SteeredResidual
from tests.engine.vllm.backends.traced import traced_code

pytestmark = pytest.mark.processes  # a compiler traces the modules


def test_all_layers_have_one_graph_of_the_activation() -> None:
    first, last = (traced_code(SteeredActivation(nn.SiLU(), layer), torch.zeros(3, 8)) for layer in (0, 41))
    assert "steer_" in first
    assert first == last


def test_all_layers_have_one_graph_of_an_activation_with_constants() -> None:
    functions = [Xielu(XieluConstants(alpha_p=alpha, alpha_n=1.3, beta=0.5)) for alpha in (0.7, 0.8)]
    modules = [SteeredActivation(function, layer) for layer, function in enumerate(functions)]
    first, last = (traced_code(module, torch.zeros(3, 8)) for module in modules)
    assert "steer_" in first
    assert first == last


def test_all_layers_have_one_graph_of_the_residual_stream() -> None:
    hidden = torch.zeros(3, 8)
    for residual in (None, torch.zeros(3, 8)):
        first, last = (traced_code(SteeredResidual(layer), hidden, residual) for layer in (0, 41))
        assert "steer_residual_" in first
        assert first == last
