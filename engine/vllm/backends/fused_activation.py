"""The module that replaces an MLP's activation with the CUDA backend, and its custom operator.

The operator reads tensors at fixed addresses and plain numbers. So torch.compile can trace it and a CUDA graph can
contain it. Of the current step it only asks which kernels may be left out, see `engine.vllm.backends.step_needs`. The
layer's index and the constants of its activation function are tensors too: numbers would be constants of the compiled
graph, and equal layers could not share one. The schema does not declare that the operator adds to the recorded sums: no
traced code reads them, and tracing would copy declared ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.kernels import record_triton, statistic_triton, steer_triton
from engine.kernels.activation import ActivationName, MlpForm
from engine.kernels.device_table import StatisticBuffers, TableBuffers
from engine.vllm.backends.captured import capture
from engine.vllm.backends.step_needs import needs_of


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceBuffers:
    """The buffers that one worker's layers read and write, at fixed addresses.

    Attributes:
        table: The slots' entries.
        slots: Each token's slot, int32 [at least T].
        strengths: Each token's strength, float32 [at least T].
        spans: The tokens of each recorded sentence, int32 [R, 2].
        counts: How often each neuron was above 0, int32 [L, R, F of the widest layer]; see `record_triton.record`.
        sums: Sums of activations, float32 of the same shape.
    """

    table: TableBuffers
    slots: torch.Tensor
    strengths: torch.Tensor
    spans: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor


def _activate_and_multiply(
    x: torch.Tensor,
    slots: torch.Tensor,
    strengths: torch.Tensor,
    offsets: torch.Tensor,
    neurons: torch.Tensor,
    mult: torch.Tensor,
    add: torch.Tensor,
    statistic: list[torch.Tensor],
    recording: list[torch.Tensor],
    layer: torch.Tensor,
    layers: int,
    block: int,
    activation: ActivationName,
    constants: torch.Tensor | None,
    gated: bool,
) -> torch.Tensor:
    spans, counts, sums = recording
    width = x.shape[-1] // (2 if gated else 1)
    table = TableBuffers(
        layers=layers,
        width=counts.shape[-1],
        block=block,
        offsets=offsets,
        neurons=neurons,
        mult=mult,
        add=add,
        statistics=StatisticBuffers(coef=statistic[0], plan=statistic[1], weights=statistic[2]) if statistic else None,
    )
    x = x.contiguous()
    out = x.new_empty(len(x), width)
    needs, statistic_of_tokens = needs_of(x), None
    if needs.recording:
        record_triton.record(counts, sums, x, spans, layer, width=width, activation=activation, constants=constants)
    if needs.captured:  # the host reads the layer's index and its constants back: captured steps may be slow
        form = MlpForm(
            activation=activation, gated=gated, constants=() if constants is None else (*constants.tolist(),)
        )
        capture(needs.captured, int(layer), form, x)
    if table.statistics is not None and needs.statistics:
        statistic_of_tokens = torch.empty(len(x), dtype=torch.float32, device=x.device)
        statistic_triton.take(
            statistic_of_tokens, x, slots, table, layer, activation=activation, gated=gated, constants=constants
        )
    steer_triton.steer(
        out,
        x,
        slots,
        table,
        layer,
        activation=activation,
        gated=gated,
        strengths=strengths,
        constants=constants,
        statistic=statistic_of_tokens,
    )
    return out


def _shape_alone(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Return a tensor of the result's shape, which is all that tracing needs."""
    gated: bool = arguments[-1]
    return x.new_empty(x.shape[0], x.shape[1] // 2 if gated else x.shape[1])


_library: Any = torch.library.Library("ampsweep", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "activate_and_multiply(Tensor x, Tensor slots, Tensor strengths, Tensor offsets, Tensor neurons, Tensor mult, "
    "Tensor add, Tensor[] statistic, Tensor[] recording, Tensor layer, int layers, int block, str activation, "
    "Tensor? constants, bool gated) -> Tensor"
)
_library.impl("activate_and_multiply", _activate_and_multiply, "CPU")
_library.impl("activate_and_multiply", _activate_and_multiply, "CUDA")
_library.impl("activate_and_multiply", _shape_alone, "Meta")


class FusedActivation(nn.Module):
    """An MLP's activation, the step's interventions and, in a gated MLP, the product with up, in one operator."""

    def __init__(self, buffers: DeviceBuffers, layer: int, form: MlpForm) -> None:
        """Replace the activation of layer number `layer` of the worker, which computes `form`."""
        super().__init__()
        table = buffers.table
        self._statistic, self._recording = [], ["spans", "counts", "sums"]
        tensors = {
            "slots": buffers.slots,
            "strengths": buffers.strengths,
            "offsets": table.offsets,
            "neurons": table.neurons,
            "mult": table.mult,
            "add": table.add,
            "spans": buffers.spans,
            "counts": buffers.counts,
            "sums": buffers.sums,
            "layer": torch.tensor(layer, dtype=torch.int32, device=buffers.slots.device),
            "constants": torch.tensor(form.constants, dtype=torch.float32, device=buffers.slots.device),
        }
        if (statistics := table.statistics) is not None:
            self._statistic = ["coef", "plan", "weights"]
            tensors |= {"coef": statistics.coef, "plan": statistics.plan, "weights": statistics.weights}
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)
        self._layers, self._block = table.layers, table.block
        self._form = form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the steered activations [..., F] of `x` [..., 2F or F], multiplied by up in a gated MLP."""
        out: torch.Tensor = torch.ops.ampsweep.activate_and_multiply(
            x.flatten(0, -2),
            self.slots,
            self.strengths,
            self.offsets,
            self.neurons,
            self.mult,
            self.add,
            [getattr(self, name) for name in self._statistic],
            [getattr(self, name) for name in self._recording],
            self.layer,
            self._layers,
            self._block,
            self._form.activation,
            self.constants if self._form.constants else None,
            self._form.gated,
        )
        return out.view(*x.shape[:-1], out.shape[-1])
