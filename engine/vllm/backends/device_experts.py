"""The module that computes a layer's experts with the CUDA backend, and its custom operator.

A grouped product computes the first projections of all pairs of a token and an expert, the steering kernel their
activations, and a second grouped product the rest. Nothing is read back to the host, so a CUDA graph can contain the
operator; only captured requests, which never are in one, sort the pairs on the host. See also
`engine.vllm.backends.fused_activation`.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.kernels.activation import ActivationName, MlpForm
from engine.kernels.cuda import grouped_product_triton, record_triton, statistic_triton, steer_triton
from engine.kernels.cuda.expert_pairs import ExpertPairs
from engine.kernels.device_table import TableBuffers
from engine.vllm.backends.captured import capture_experts
from engine.vllm.backends.device_buffers import DeviceModule, table_of
from engine.vllm.backends.experts import ExpertRows, arrange
from engine.vllm.backends.operators import define_operator, trace_like_input
from engine.vllm.backends.step_needs import StepNeeds, needs_of


def _run_device_experts(
    x: torch.Tensor,
    w13: torch.Tensor,
    w2: torch.Tensor,
    shares: torch.Tensor,
    chosen: torch.Tensor,
    tokens: list[torch.Tensor],
    entries: list[torch.Tensor],
    statistic: list[torch.Tensor],
    recording: list[torch.Tensor],
    layer: torch.Tensor,
    section: torch.Tensor,
    shape: list[int],
    activation: ActivationName,
    constants: torch.Tensor | None,
    b13: torch.Tensor | None = None,
    b2: torch.Tensor | None = None,
    limit: float | None = None,
    on_input: bool = False,
) -> torch.Tensor:
    assert constants is None, "no experts have xIELU"
    slots, strengths = tokens
    width, table, needs = w2.shape[2], table_of(entries, statistic, shape), needs_of(x)
    pairs = ExpertPairs.of(chosen, experts=len(w2))
    shares = shares.flatten()
    inputs = x.contiguous()
    if on_input:
        inputs = inputs.repeat_interleave(pairs.each, dim=0) * shares[:, None].to(x.dtype)
    projected = x.new_empty(len(pairs.chosen), w13.shape[1])
    each = 1 if on_input else pairs.each
    grouped_product_triton.multiply(projected, inputs, w13, pairs, each=each, biases=b13)
    projected = arrange(projected, limit)
    form = MlpForm(activation=activation, gated=projected.shape[1] > width)
    if needs.recording:
        _record(recording, projected, pairs, layer, width=width, activation=activation)
    if needs.captured:
        rows = ExpertRows.of(chosen)
        capture_experts(needs.captured, int(layer), form, rows, projected[rows.order], width)
    activated = x.new_empty(len(projected), width)
    steer_triton.steer(
        activated,
        projected,
        slots,
        table,
        section,
        activation=activation,
        gated=form.gated,
        strengths=strengths,
        statistic=_statistic(projected, pairs, needs, slots, table, layer, section, width=width, activation=activation),
        pairs=pairs,
    )
    outputs = torch.empty(len(projected), w2.shape[1], dtype=torch.float32, device=x.device)
    grouped_product_triton.multiply(outputs, activated, w2, pairs, biases=b2, shares=None if on_input else shares)
    return outputs.view(len(x), pairs.each, -1).sum(dim=1).to(x.dtype)


def _record(
    recording: list[torch.Tensor],
    projected: torch.Tensor,
    pairs: ExpertPairs,
    layer: torch.Tensor,
    *,
    width: int,
    activation: ActivationName,
) -> None:
    """Count the tokens that reach each expert, and add the counts and sums of the experts' neurons."""
    spans, counts, sums, reached = recording
    places = pairs.spans(spans)
    routed = (places[:, 1] - places[:, 0]).view(1, len(spans), pairs.experts)
    reached[:, :, : pairs.experts].index_add_(0, layer.view(1), routed)
    record_triton.record(counts, sums, projected, places, layer, width=width, activation=activation, pairs=pairs)


def _statistic(
    projected: torch.Tensor,
    pairs: ExpertPairs,
    needs: StepNeeds,
    slots: torch.Tensor,
    table: TableBuffers,
    layer: torch.Tensor,
    section: torch.Tensor,
    *,
    width: int,
    activation: ActivationName,
) -> torch.Tensor | None:
    """Return each token's statistic over the experts that it reaches, float32 [T]; None if the step needs none."""
    if table.statistics is None or not needs.statistics:
        return None
    gates = projected[:, :width].reshape(-1, pairs.each * width)
    statistic = torch.empty(len(gates), dtype=torch.float32, device=gates.device)
    statistic_triton.take(
        statistic,
        gates,
        slots,
        table,
        layer,
        activation=activation,
        gated=False,
        section=section,
        sections=pairs.experts,
    )
    return statistic


_library = define_operator(
    f"run_device_experts(Tensor x, Tensor w13, Tensor w2, Tensor shares, Tensor chosen, {DeviceModule.SCHEMA}, *, "
    "Tensor? b13=None, Tensor? b2=None, float? limit=None, bool on_input=False) -> Tensor",
    _run_device_experts,
    trace_like_input,
)


class DeviceExperts(DeviceModule):
    """The experts of one layer, with the step's interventions."""

    def forward(
        self,
        x: torch.Tensor,
        w13: torch.Tensor,
        w2: torch.Tensor,
        shares: torch.Tensor,
        chosen: torch.Tensor,
        **optional: Any,
    ) -> torch.Tensor:
        """Return the sum of the experts' outputs, [T, H]; see `engine.vllm.backends.experts.run_experts`."""
        output: torch.Tensor = torch.ops.ampsweep.run_device_experts(
            x, w13, w2, shares, chosen, *self.passed(), **optional
        )
        return output
