"""The module that records and steers the residual stream with the CUDA backend, and its custom operator.

The operator reads tensors at fixed addresses, so that torch.compile can trace it and a CUDA graph can contain it. As in
`engine.vllm.backends.fused_activation`, its schema does not declare that it adds to the recorded sums.
"""

from __future__ import annotations

import torch
from torch import nn

from engine.kernels.cuda import residual_triton
from engine.kernels.device_table import VectorBuffers
from engine.vllm.backends.operators import define_operator, trace_nothing
from engine.vllm.backends.residual import rows_of
from engine.vllm.backends.step_needs import needs_of


def _record_and_steer(
    hidden: torch.Tensor,
    residual: torch.Tensor | None,
    slots: torch.Tensor,
    strengths: torch.Tensor,
    adds: torch.Tensor,
    values: torch.Tensor,
    spans: torch.Tensor,
    sums: torch.Tensor,
    layer: torch.Tensor,
) -> None:
    rows = rows_of(hidden)
    needs = needs_of(hidden)
    if needs.recording:
        residual_triton.record(sums, rows, None if residual is None else rows_of(residual), spans, layer)
    if needs.vectors:
        residual_triton.add(rows, slots, strengths, VectorBuffers(adds=adds, values=values), layer)


_library = define_operator(
    "record_and_steer_residual_(Tensor(a!) hidden, Tensor? residual, Tensor slots, Tensor strengths, Tensor adds, "
    "Tensor values, Tensor spans, Tensor sums, Tensor layer) -> ()",
    _record_and_steer,
    trace_nothing,
)


class DeviceResidual(nn.Module):
    """Records and steers what a layer returns.

    Args:
        layer: Index of the layer among the worker's layers.
        slots: Each token's slot, int32 [at least T].
        strengths: Each token's strength, float32 [at least T].
        vectors: The slots' vectors.
        spans: The tokens of each recorded sentence, int32 [R, 2].
        sums: Sums of the residual stream, float32 [L, R, H].
    """

    def __init__(
        self,
        layer: int,
        *,
        slots: torch.Tensor,
        strengths: torch.Tensor,
        vectors: VectorBuffers,
        spans: torch.Tensor,
        sums: torch.Tensor,
    ) -> None:
        super().__init__()
        buffers = {
            "slots": slots,
            "strengths": strengths,
            "adds": vectors.adds,
            "values": vectors.values,
            "spans": spans,
            "sums": sums,
            "layer": torch.tensor(layer, dtype=torch.int32, device=slots.device),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Change `hidden` [..., H] in place; the layer's output is `hidden`, or the sum of both."""
        torch.ops.ampsweep.record_and_steer_residual_(
            hidden, residual, self.slots, self.strengths, self.adds, self.values, self.spans, self.sums, self.layer
        )
