"""The modules of the CUDA backend trace to one graph for all layers, and launch what a step needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.statistic import Statistic
from engine.kernels.activation import MlpForm
from engine.kernels.device_table import DeviceTable, SlotEntries
from engine.vllm.backends import step_needs
from engine.vllm.backends.base import NOTHING, RecordedSpan, StepLayout
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard
from tests.engine.kernels.triton_modules import (
    DEVICE,
    record_triton,
    residual_triton,
    statistic_triton,
    steer_triton,
    use_interpreter,
)
from tests.engine.vllm.backends.traced import traced_code

LAYERS, WIDTH, HIDDEN, ROWS, TOKENS = 42, 20, 8, 2, 3


@pytest.mark.processes  # a compiler traces the modules
@pytest.mark.parametrize(
    "forms",
    [
        [MlpForm(activation="silu", gated=True)] * 2,
        [MlpForm(activation="silu", gated=False)] * 2,
        [MlpForm(activation="xielu", gated=False, constants=(alpha, 1.3, 0.5)) for alpha in (0.7, 0.8)],
    ],
    ids=["gated", "plain", "with constants"],
)
def test_all_layers_have_one_graph_of_the_activation(forms: list[MlpForm]) -> None:
    from engine.vllm.backends.device_buffers import DeviceBuffers
    from engine.vllm.backends.fused_activation import FusedActivation

    table = DeviceTable(slots=1, layers=LAYERS, width=WIDTH, capacity=10, statistics=True, device=DEVICE)
    buffers = DeviceBuffers(
        table=table.buffers,
        slots=torch.zeros(TOKENS, dtype=torch.int32, device=DEVICE),
        strengths=torch.ones(TOKENS, device=DEVICE),
        spans=torch.zeros(ROWS, 2, dtype=torch.int32, device=DEVICE),
        counts=torch.zeros(LAYERS, ROWS, WIDTH, dtype=torch.int32, device=DEVICE),
        sums=torch.zeros(LAYERS, ROWS, WIDTH, device=DEVICE),
    )
    x = torch.zeros(TOKENS, WIDTH * (2 if forms[0].gated else 1), device=DEVICE)
    layers = zip((0, LAYERS - 1), forms, strict=True)
    modules = (FusedActivation(buffers, layer=layer, section=layer, form=form) for layer, form in layers)
    first, last = (traced_code(module, x) for module in modules)
    assert "activate_and_multiply" in first
    assert first == last


@pytest.mark.processes  # a compiler traces the modules
@pytest.mark.parametrize("fused", [True, False])
def test_all_layers_have_one_graph_of_the_residual_stream(fused: bool) -> None:
    from engine.vllm.backends.device_residual import DeviceResidual

    table = DeviceTable(slots=1, layers=LAYERS, width=WIDTH, capacity=10, hidden_size=HIDDEN, device=DEVICE)
    buffers: dict[str, Any] = {
        "slots": torch.zeros(TOKENS, dtype=torch.int32, device=DEVICE),
        "strengths": torch.ones(TOKENS, device=DEVICE),
        "vectors": table.vectors,
        "spans": torch.zeros(ROWS, 2, dtype=torch.int32, device=DEVICE),
        "sums": torch.zeros(LAYERS, ROWS, HIDDEN, device=DEVICE),
    }
    hidden = torch.zeros(TOKENS, HIDDEN, device=DEVICE)
    residual = torch.zeros_like(hidden) if fused else None
    first, last = (traced_code(DeviceResidual(layer, **buffers), hidden, residual) for layer in (0, LAYERS - 1))
    assert "record_and_steer_residual_" in first
    assert first == last


KERNELS = {
    "record": (record_triton, "record"),
    "statistic": (statistic_triton, "take"),
    "steer": (steer_triton, "steer"),
    "record residual": (residual_triton, "record"),
    "add vector": (residual_triton, "add"),
}
ALWAYS = {"steer"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of the kernels that were launched since it was last cleared."""
    use_interpreter(monkeypatch)
    names: set[str] = set()

    def noting(name: str, launch: Callable[..., None]) -> Callable[..., None]:
        def launch_noted(*arguments: Any, **options: Any) -> None:
            names.add(name)
            launch(*arguments, **options)

        return launch_noted

    for name, (module, function) in KERNELS.items():
        monkeypatch.setattr(module, function, noting(name, getattr(module, function)))
    return names


def test_a_step_launches_only_the_kernels_that_it_needs(launched: set[str]) -> None:
    from engine.vllm.backends.cuda import CudaBackend

    widths = LayerWidths(2, (0, WIDTH))  # layer 0 has no MLP
    shard = Shard.of_rank(range(2), widths)
    backend = CudaBackend(
        [None, MlpForm(activation="silu", gated=True)],
        width=widths.width,
        hidden_size=HIDDEN,
        slots=3,
        entries=WIDTH,
        tokens=TOKENS,
        recording=Recording(shard, rows=ROWS, hidden_size=HIDDEN, device=DEVICE),
        statistics=True,
        device=DEVICE,
    )
    one = np.ones(1, dtype=np.float32)
    entry: dict[str, Any] = {
        "offsets": np.array([0, 0, 1], dtype=np.int64),
        "indices": np.zeros(1, dtype=np.int32),
        "mult": one,
        "add": one,
    }
    backend.write(1, SlotEntries(**entry))
    backend.write(2, SlotEntries(**entry, statistic=Statistic(name="mean"), coef=one))
    backend.write(3, SlotEntries(**entry, vectors=np.ones((2, HIDDEN), dtype=np.float32)))

    backend.warm_up(torch.float32)

    def launches_of(layout: StepLayout) -> set[str]:
        launched.clear()
        backend.begin_step(layout)
        backend.activation(1, nn.Identity())(torch.ones(TOKENS, 2 * WIDTH, device=DEVICE))
        backend.residual(0)(torch.ones(TOKENS, HIDDEN, device=DEVICE), None)
        return set(launched)

    def slots(slot: int) -> np.ndarray:
        return np.array([0, slot, 0], dtype=np.int32)

    recorded = (RecordedSpan(0, 0, 2, True),)
    assert launches_of(NOTHING) == ALWAYS
    assert launches_of(StepLayout(slots=slots(1))) == ALWAYS
    assert launches_of(StepLayout(slots=slots(2))) == ALWAYS | {"statistic"}
    assert launches_of(StepLayout(slots=slots(3))) == ALWAYS | {"add vector"}
    assert launches_of(StepLayout(slots=slots(0), recorded=recorded)) == ALWAYS | {"record", "record residual"}
    assert launches_of(NOTHING) == ALWAYS
    launched.clear()
    step_needs.set_needs()
    backend.activation(1, nn.Identity())(torch.ones(TOKENS, 2 * WIDTH, device=DEVICE))
    backend.residual(0)(torch.ones(TOKENS, HIDDEN, device=DEVICE), None)
    assert launched == set(KERNELS), "what is not known to be idle is launched"
