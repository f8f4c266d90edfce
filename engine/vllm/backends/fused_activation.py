"""The module that replaces an MLP's activation with the CUDA backend, and its custom operator.

Of the current step the operator only asks which kernels may be left out, see `engine.vllm.backends.step_needs`; for the
rest see `engine.vllm.backends.device_buffers`. The schema does not declare that the operator adds to the recorded sums:
no traced code reads them, and tracing would copy declared ones.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.kernels.activation import ActivationName, MlpForm
from engine.kernels.cuda import record_triton, statistic_triton, steer_triton
from engine.vllm.backends.captured import capture
from engine.vllm.backends.device_buffers import DeviceModule, table_of
from engine.vllm.backends.operators import define_operator
from engine.vllm.backends.step_needs import needs_of


def _activate_and_multiply(
    x: torch.Tensor,
    tokens: list[torch.Tensor],
    entries: list[torch.Tensor],
    statistic: list[torch.Tensor],
    recording: list[torch.Tensor],
    layer: torch.Tensor,
    section: torch.Tensor,
    shape: list[int],
    activation: ActivationName,
    constants: torch.Tensor | None,
    gated: bool,
) -> torch.Tensor:
    slots, strengths = tokens
    spans, counts, sums = recording[:3]
    width = x.shape[-1] // (2 if gated else 1)
    table = table_of(entries, statistic, shape)
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
            statistic_of_tokens,
            x,
            slots,
            table,
            layer,
            activation=activation,
            gated=gated,
            constants=constants,
            section=section,
        )
    steer_triton.steer(
        out,
        x,
        slots,
        table,
        section,
        activation=activation,
        gated=gated,
        strengths=strengths,
        constants=constants,
        statistic=statistic_of_tokens,
    )
    return out


def _trace_half(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Return a tensor of half as many columns for a gated MLP, else of the shape of `x`."""
    gated: bool = arguments[-1]
    return x.new_empty(x.shape[0], x.shape[1] // 2 if gated else x.shape[1])


_library = define_operator(
    f"activate_and_multiply(Tensor x, {DeviceModule.SCHEMA}, bool gated) -> Tensor",
    _activate_and_multiply,
    _trace_half,
)


class FusedActivation(DeviceModule):
    """An MLP's activation, the step's interventions and, in a gated MLP, the product with up, in one operator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the steered activations [..., F] of `x` [..., 2F or F], multiplied by up in a gated MLP."""
        out: torch.Tensor = torch.ops.ampsweep.activate_and_multiply(x.flatten(0, -2), *self.passed(), self._form.gated)
        return out.view(*x.shape[:-1], out.shape[-1])
