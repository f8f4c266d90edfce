"""The modules of the CUDA backend trace to one graph for all layers, so that a compiler's cache can share it."""

from __future__ import annotations

import pytest
import torch

from engine.kernels.activation import MlpForm
from engine.kernels.device_table import DeviceTable
from tests.engine.kernels.triton_modules import DEVICE
from tests.engine.vllm.backends.traced import traced_code

LAYERS, WIDTH, HIDDEN, ROWS, TOKENS = 42, 20, 8, 2, 3


@pytest.mark.parametrize("gated", [True, False])
def test_all_layers_have_one_graph_of_the_activation(gated: bool) -> None:
    from engine.vllm.backends.fused_activation import DeviceBuffers, FusedActivation

    table = DeviceTable(slots=1, layers=LAYERS, width=WIDTH, capacity=10, statistics=True, device=DEVICE)
    buffers = DeviceBuffers(
        table=table.buffers,
        slots=torch.zeros(TOKENS, dtype=torch.int32, device=DEVICE),
        spans=torch.zeros(ROWS, 2, dtype=torch.int32, device=DEVICE),
        counts=torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE),
        sums=torch.zeros(LAYERS, ROWS, WIDTH, device=DEVICE),
    )
    x = torch.zeros(TOKENS, WIDTH * (2 if gated else 1), device=DEVICE)
    form = MlpForm(activation="silu", gated=gated)
    first, last = (traced_code(FusedActivation(buffers, layer, form), x) for layer in (0, LAYERS - 1))
    assert "activate_and_multiply" in first
    assert first == last


@pytest.mark.parametrize("fused", [True, False])
def test_all_layers_have_one_graph_of_the_residual_stream(fused: bool) -> None:
    from engine.vllm.backends.device_residual import DeviceResidual

    table = DeviceTable(slots=1, layers=LAYERS, width=WIDTH, capacity=10, hidden_size=HIDDEN, device=DEVICE)
    buffers = {
        "slots": torch.zeros(TOKENS, dtype=torch.int32, device=DEVICE),
        "vectors": table.vectors,
        "spans": torch.zeros(ROWS, 2, dtype=torch.int32, device=DEVICE),
        "sums": torch.zeros(LAYERS, ROWS, HIDDEN, device=DEVICE),
    }
    hidden = torch.zeros(TOKENS, HIDDEN, device=DEVICE)
    residual = torch.zeros_like(hidden) if fused else None
    first, last = (traced_code(DeviceResidual(layer, **buffers), hidden, residual) for layer in (0, LAYERS - 1))
    assert "record_and_steer_residual_" in first
    assert first == last
